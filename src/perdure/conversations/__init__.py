"""Conversations: the append-only event stream of each process, and what its messages have come to."""
