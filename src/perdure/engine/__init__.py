"""The engine: processes, turns, delivery and recovery."""
