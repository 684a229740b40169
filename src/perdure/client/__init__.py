"""Perdure over HTTP, for programs elsewhere."""
