"""File formats: bytes to arrays and back; no module here knows a data set."""
