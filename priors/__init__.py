"""What a sampler needs of a model: :mod:`base` is the protocol, :mod:`diffusers` loads models."""
