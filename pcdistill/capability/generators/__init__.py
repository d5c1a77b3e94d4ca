"""Image generators: from a prompt to an image with a map of where the class is."""
