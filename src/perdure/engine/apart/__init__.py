"""Versions of packages in interpreters of their own.

Source: packages.md, "Isolation"; docs/isolation.md.
"""
