"""Readers: one module or folder for each layout of a scan on disk."""
