"""Readers of nuScenes: its own tables, and the layout of OpenScene's scripts."""
