"""Closed-loop programs that print one JSON line per level. Benchmarks are no tests: nothing here asserts a time."""
