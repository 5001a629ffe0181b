"""Chain CNNs of introductory texts: some convolution layers, each with a kernel."""
