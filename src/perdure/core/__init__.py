"""The transaction processor: prefetch, decide, apply. It knows no domain."""
