"""Flow models as priors: :mod:`base` defines the protocol, :mod:`diffusers` loads models."""
