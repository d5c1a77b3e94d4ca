"""Engines of sparse convolution: one file each, and the compiled kernels they call."""
