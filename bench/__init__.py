"""The harness: it knows no space and no strategy by name."""

import os

__version__ = "0.1.0"

# One thread a process, before numpy is loaded: runs are spread over processes instead, and sums
# do not depend on the number of cores.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
