"""Routing: which process a message belongs to, by key or by tag."""
