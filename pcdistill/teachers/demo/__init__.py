"""The demo's teachers: two small image networks with their weights."""
