"""Thresholds of the agreement of depth, poses and surface, see `measure_agreement`.

One table for all that judge it: the checks of captures and data sets, and the doctor.
"""

TOLERANCE = 0.05
"""Of the measured depth; tight enough to notice a focal length that is 15 % off."""
LOOSE_TOLERANCE = 0.25
"""Of the measured depth: what lifting's occlusion test, as in the paper's code, still takes for the
same surface."""

WELL = 0.9
"""Share of the covered tiles that agree in a capture that is right; real ones have 0.96 to 1."""
MENDED = 0.85
"""Share of them under a reading that is given as advice."""
ROUGHLY = 0.8
"""Share within `LOOSE_TOLERANCE`, of captures that can be lifted although they are inaccurate."""
STRAIGHTENED = 0.8
"""Share of them with a line of its own for every depth image."""
STRAIGHTENED_GAIN = 0.3
"""How much larger it must be than with one scale for all images."""
MISPLACED = 0.3
"""Share of a misplaced frame's tiles that agree by chance, at most."""

MIN_TILES = 50
"""Tiles below which a scan is not judged."""
MIN_TILES_OF_FRAME = 30
"""Tiles below which a single frame is not."""
MIN_COVERAGE = 0.8
"""Of the tiles with depth, in which there must be surface."""
MIN_OVERLAP = 0.1
"""Of the tiles with depth, that frames must share to judge each other."""
HALF = 0.5
"""Of the tiles with depth; less surface is hardly meant."""
FACTOR_NOTICED = 0.06
"""Off 1: the factor between measured depth and surface from which it is named."""
MAX_FACTOR = 0.25
"""Off 1: the factor up to which depth is merely scaled, and not of another unit."""
DENSE_POINTS = 5000
"""Points of a surface; with fewer one looks through walls."""
