"""The harness: it knows no space and no strategy by name."""

__version__ = "0.1.0"
