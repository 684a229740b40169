"""Packages: process code that the store keeps."""
