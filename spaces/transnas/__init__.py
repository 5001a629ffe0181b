"""TransNAS-Bench-101: a cell space and a macro space, measured on seven tasks of Taskonomy."""
