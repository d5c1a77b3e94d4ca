"""Reader of nerfstudio's data sets."""
