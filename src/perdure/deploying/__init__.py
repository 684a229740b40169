"""Bringing packages into a store, and deciding where new processes start; what the command line and the server have in common."""
