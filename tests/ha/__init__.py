"""High availability, run for real: see `python -m tests.ha --help`."""
