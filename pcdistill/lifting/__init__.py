"""Lifting: what images say, carried onto the points of a scene."""
