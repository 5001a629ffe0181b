"""The cell space of DARTS, which NAS-Bench-301 measured by sampling."""
