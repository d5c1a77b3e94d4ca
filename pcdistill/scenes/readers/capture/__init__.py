"""Parts that the readers of people's own captures share."""
