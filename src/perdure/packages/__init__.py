"""Packages: process code that the store keeps, by the hash of what it is; which version new processes start on."""
