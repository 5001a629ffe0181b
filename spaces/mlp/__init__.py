"""Multilayer perceptrons: some hidden layers, each with a width."""
