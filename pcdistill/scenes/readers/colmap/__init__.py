"""Reader of COLMAP reconstructions."""
