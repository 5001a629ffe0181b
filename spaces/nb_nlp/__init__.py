"""NAS-Bench-NLP: recurrent cells for language models."""
