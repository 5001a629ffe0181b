"""NAS-Bench-Macro: a chain of eight layers, measured on CIFAR-10."""
