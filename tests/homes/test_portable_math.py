"""Elementary functions that round in one way: near the true ones, exact where it matters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.homes.portable_math import (
    GRID,
    cosine,
    decay,
    dot,
    norms,
    power,
    sine,
    snap,
    transform,
    unit,
    wave,
)

BITS = 2.0**-30  # distance of the values of sine and cosine
numbers = st.floats(-50, 50)


@given(numbers, numbers)
def test_sums_of_snapped_coordinates_stay_on_the_grid(x, y):
    assert abs(snap(x) - x) <= GRID / 2
    assert snap(snap(x)) == snap(x)
    total = snap(x) + snap(y)
    assert total == snap(total)
    assert snap(np.array([x]))[0] == snap(x)


@given(numbers)
def test_sine_and_cosine_are_the_true_ones_to_thirty_bits(angle):
    assert abs(cosine(angle) - math.cos(angle)) <= BITS
    assert abs(sine(angle) - math.sin(angle)) <= BITS
    assert cosine(np.array([angle]))[0] == cosine(angle)
    assert sine(np.array([angle]))[0] == sine(angle)


@pytest.mark.parametrize("quarters", range(-4, 5))
def test_quarter_turns_are_exact(quarters):
    turn = quarters * math.pi / 2
    assert cosine(turn) == [1, 0, -1, 0][quarters % 4]
    assert sine(turn) == [0, 1, 0, -1][quarters % 4]


@given(st.floats(0, 9))
def test_decay_is_the_exponential_of_shading(x):
    # what the function promises
    assert decay(x) == pytest.approx(math.exp(-x), rel=1e-6)
    assert decay(31.0) == 0


@given(st.floats(-40, 40))
def test_wave_is_a_sine_of_turns(turns):
    """The series ends at the ninth power: 4e-6 at a quarter turn."""
    assert wave(turns) == pytest.approx(math.sin(2 * math.pi * turns), abs=4e-6)


def test_vectors_are_turned_measured_and_made_unit():
    rng = np.random.default_rng(0)
    vectors, matrix = rng.normal(size=(5, 7, 3)), rng.normal(size=(3, 3))
    rounding = 1e-14  # of three float64 products
    np.testing.assert_allclose(transform(vectors, matrix), vectors @ matrix.T, atol=rounding)
    np.testing.assert_allclose(dot(vectors, vectors), (vectors**2).sum(axis=-1), rtol=rounding)
    np.testing.assert_allclose(norms(unit(vectors)), 1, rtol=rounding)
    assert not unit(np.zeros((2, 3))).any()
    np.testing.assert_allclose(power(np.array([0.5, 2.0]), 1.5), [0.5**1.5, 2**1.5], atol=BITS)
