"""Export formats of labelled scenes: one module a format, all of the same record."""
