"""Packages on their way to a store: how one is built, tried out and deployed, and how new processes come to start on it."""
