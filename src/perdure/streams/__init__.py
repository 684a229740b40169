"""Streams: append-only entries of any bytes, and numbers that are set by comparison."""
