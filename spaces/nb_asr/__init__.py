"""NAS-Bench-ASR: cells for speech recognition, measured on TIMIT."""
