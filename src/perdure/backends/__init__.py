"""Databases. Each has its own folder; nothing outside of here knows which one is in use, except by URL."""
