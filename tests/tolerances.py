"""How far numbers may be apart that are equal but for how they were computed or stored."""

FLOAT64 = 1e-9
"""float64 through a few matrix products: a spacing of 1e-13 at 1000 (pixels, metres), and room."""
FLOAT64_EXACT = 1e-12
"""float64 in one or two operations on numbers near 1."""
FLOAT32 = 1e-6
"""float32 that was stored or computed in a few operations: its spacing is 5e-7 at 4 to 8."""
FLOAT32_SUMS = 1e-5
"""float32 sums of up to hundreds of numbers near 1, in whatever order: 1e-7 for each step."""
HALF_STEP = 2.0**-10
"""Spacing of half precision at 1."""
MILLIMETRE = 6e-4
"""Metres that were stored as whole millimetres: half of one, and float32 on top."""
JPEG = 2
"""Of 255: what two decoders of the same JPEG file make of a pixel."""
SENSOR = 0.02
"""Metres: the noise of a depth sensor, and of a mesh that was fused from it, at 1 to 4 metres."""
