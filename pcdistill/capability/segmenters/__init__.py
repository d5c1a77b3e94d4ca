"""Segmenters: from an image and prompt points to a mask."""
