"""Training of the demo prior: data, autoencoder, flow, and the single-file checkpoint."""
