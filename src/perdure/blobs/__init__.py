"""Blobs: large bytes, kept in parts and named by their SHA-256, once for each tenant."""
