"""Learning rate schedules, as plain functions of the iteration's number."""

from __future__ import annotations

import math
from typing import Literal

BASE_RATE = 1e-4
"""Learning rate at the start (SAS, Table 7)."""
FINAL_RATE = 1e-5
"""Learning rate at the end of the linear schedule (SAS, section 6.1)."""
WARM_UP = 0.15
"""Fraction of all iterations in which the one-cycle schedule rises."""


def linear_learning_rate(
    iteration: int, total: int, *, base: float = BASE_RATE, final: float = FINAL_RATE
) -> float:
    """Fall from `base` to `final` on a straight line.

    Args:
        iteration: 0 for the first; from `total` on the rate stays at `final`.
        total: iterations of the whole training, over all epochs.
        base: rate of iteration 0.
        final: rate of iteration `total`.

    Raises:
        ValueError: `total` is not positive or `iteration` is negative.

    Source: SAS, Table 7 and section 6.1.
    """
    fraction = _fraction_done(iteration, total)
    return base + (final - base) * fraction


def one_cycle_learning_rate(
    iteration: int, total: int, *, base: float = BASE_RATE, final: float = FINAL_RATE
) -> float:
    """Rise to `base` through 15 % of all iterations, then fall to `final` by half a cosine.

    Args and errors as in `linear_learning_rate`; `base` is the highest rate.

    Source: Smith & Topin, Super-convergence, 2018; for trainings of some hundred steps.
    """
    fraction = _fraction_done(iteration, total)
    if fraction < WARM_UP:
        return base * (fraction + 1 / total) / (WARM_UP + 1 / total)
    fallen = (fraction - WARM_UP) / (1 - WARM_UP)
    return final + (base - final) * 0.5 * (1 + math.cos(math.pi * fallen))


def polynomial_learning_rate(
    iteration: int, total: int, *, base: float = BASE_RATE, power: float = 0.9
) -> float:
    """Fall from `base` to zero as `base * (1 - iteration / total) ** power`.

    Args and errors as in `linear_learning_rate`.

    Source: the schedule in OpenScene's and SAS's released code.
    """
    return float(base * (1 - _fraction_done(iteration, total)) ** power)


def openscene_release_learning_rate(
    iteration: int, total: int, *, base: float = BASE_RATE, power: float = 0.9
) -> float:
    """Give the rate with which the released code really trained iteration `iteration`.

    The released loop meant a tenfold rate for the parameter groups of a segmentation head. With
    the single group of this training an index slip applies it to the whole network: after each
    iteration ten times the polynomial rate of that iteration is written to the optimizer. So
    iteration 0 uses `base`, every later one ten times the polynomial rate of the one before.
    Use it only to reproduce a published number.

    Args and errors as in `linear_learning_rate`.

    Source: SAS, released code, compared with the stored run of the reference.
    """
    if iteration <= 0:
        return polynomial_learning_rate(iteration, total, base=base, power=power)
    return 10 * polynomial_learning_rate(iteration - 1, total, base=base, power=power)


Schedule = Literal["linear", "one-cycle", "polynomial", "released"]
"""Names of the schedules."""


def scheduled_learning_rate(
    schedule: Schedule, iteration: int, total: int, *, base: float, final: float
) -> float:
    """The rate of an iteration by the schedule of that name.

    Args and errors as in `linear_learning_rate`; `polynomial` and `released` end at zero.
    """
    if schedule == "linear":
        return linear_learning_rate(iteration, total, base=base, final=final)
    if schedule == "one-cycle":
        return one_cycle_learning_rate(iteration, total, base=base, final=final)
    if schedule == "polynomial":
        return polynomial_learning_rate(iteration, total, base=base)
    return openscene_release_learning_rate(iteration, total, base=base)


def _fraction_done(iteration: int, total: int) -> float:
    if total <= 0:
        raise ValueError(f"total is {total}, expected the number of iterations, > 0")
    if iteration < 0:
        raise ValueError(f"iteration is {iteration}, expected a number >= 0")
    return min(iteration / total, 1.0)
