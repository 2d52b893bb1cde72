"""A page in which a trained VAE can be explored, and the layers that it computes."""
