"""Callback types of long computations."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[int, int, str], None]
"""Called with the number of steps done, of all steps, and what a step is ("frames")."""
