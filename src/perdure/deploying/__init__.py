"""Packages on their way to a store: how one is built, and tried out."""
