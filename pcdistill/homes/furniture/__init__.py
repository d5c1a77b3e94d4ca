"""Furniture: a model builder for each kind of object."""
