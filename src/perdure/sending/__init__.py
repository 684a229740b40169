"""Sending HTTP requests to where somebody else says: what may be sent to, what became of it, and when to stop for a while."""
