"""NAS-Bench-Graph: graph neural networks of four nodes, on nine data sets."""
