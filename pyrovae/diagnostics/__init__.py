"""What a trained pair does with its latent variables, and how noisy its gradients are."""
