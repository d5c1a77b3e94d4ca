"""Segments are blocked exactly where some triangle stands in their way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.homes.shadow_rays import blocked, build_hierarchy


def by_hand(triangles, origins, vectors, reach):
    """(R,) bool by solving for every segment and triangle."""
    result = np.zeros(len(origins), bool)
    for a, b, c in triangles:
        for ray, (origin, vector) in enumerate(zip(origins, vectors, strict=True)):
            system = np.stack([vector, a - b, a - c], axis=1)
            if abs(np.linalg.det(system)) < 1e-12:
                continue
            t, u, v = np.linalg.solve(system, a - origin)
            result[ray] |= 0 < t < reach and u >= 0 and v >= 0 and u + v <= 1
    return result


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
def test_it_is_what_every_triangle_says(seed, count):
    rng = np.random.default_rng(seed)
    triangles = rng.uniform(0, 4, (count, 1, 3)) + rng.uniform(-0.7, 0.7, (count, 3, 3))
    origins, vectors = rng.uniform(0, 4, (30, 3)), rng.uniform(-3, 3, (30, 3))
    found = blocked(build_hierarchy(triangles), origins, vectors, 0.97)
    np.testing.assert_array_equal(found, by_hand(triangles, origins, vectors, 0.97))


@pytest.mark.parametrize(("reach", "expected"), [(0.51, True), (0.49, False)])
def test_only_the_given_share_of_a_segment_counts(reach, expected):
    wall = np.array([[[1.0, -5, -5], [1, 5, -5], [1, 0, 9]]])
    found = blocked(build_hierarchy(wall), np.zeros((1, 3)), np.array([[2.0, 0, 0]]), reach)
    assert found.tolist() == [expected]


def test_segments_along_an_axis_and_triangles_at_one_place_are_no_special_case():
    """Many equal triangles cannot be parted in the middle; zeros in a direction divide nothing."""
    wall = np.array([[1.0, -5, -5], [1, 5, -5], [1, 0, 9]])
    triangles = np.repeat(wall[None], 40, axis=0)
    origins = np.zeros((4, 3))
    vectors = np.array([[2.0, 0, 0], [-2.0, 0, 0], [0, 2.0, 0], [0, 0, 0]])
    found = blocked(build_hierarchy(triangles), origins, vectors, 1.0)
    assert found.tolist() == [True, False, False, False]
