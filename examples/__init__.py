"""Programs that run, each with its test."""
