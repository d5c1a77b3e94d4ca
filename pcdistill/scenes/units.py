"""Units of length and depth scales that scans are stored with."""

from __future__ import annotations

from collections.abc import Mapping

METRE = 1.0
FOOT = 0.3048
US_FOOT = 1200 / 3937
INCH = 0.0254

MISTAKEN_UNITS: Mapping[str, float] = {
    "millimetres": 0.001,
    "centimetres": 0.01,
    "feet": FOOT,
    "inches": INCH,
}
"""Metres of what files are written in by mistake, where they should be in metres."""

DEPTH_SCALE = 1000.0
"""Counts per metre of depth images where nothing says otherwise: millimetres."""
DEPTH_SCALES = (1.0, 10.0, 100.0, 256.0, 1000.0, 2000.0, 4000.0, 5000.0, 6553.5, 10000.0)
"""Counts per metre that depth images are stored with."""
