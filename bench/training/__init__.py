"""Training networks: recipes, data on the device, the loop, its supervision. Needs PyTorch."""
