"""Tokens: who may do what over HTTP. Only the hash of a secret is stored."""
