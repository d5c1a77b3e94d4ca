"""Artefacts: loading and writing what stages hand to each other."""
