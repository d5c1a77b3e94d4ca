"""Learning rate of each iteration, as plain functions of the iteration's number."""

from __future__ import annotations

BASE_RATE = 1e-4
"""Learning rate at the start (SAS, Table 7)."""
FINAL_RATE = 1e-5
"""Learning rate at the end of the linear schedule (SAS, section 6.1)."""


def linear_learning_rate(
    iteration: int, total: int, *, base: float = BASE_RATE, final: float = FINAL_RATE
) -> float:
    """Go from `base` to `final` on a straight line.

    Args:
        iteration: 0 for the first; from `total` on the rate stays at `final`.
        total: iterations of the whole training, over all epochs.
        base: rate of iteration 0.
        final: rate of iteration `total`.

    Raises:
        ValueError: `total` is not positive or `iteration` is negative.

    Source: SAS, Table 7 and section 6.1.
    """
    share = _share_done(iteration, total)
    return base + (final - base) * share


def polynomial_learning_rate(
    iteration: int, total: int, *, base: float = BASE_RATE, power: float = 0.9
) -> float:
    """Fall from `base` to zero as `base * (1 - iteration / total) ** power`.

    Args and errors as in `linear_learning_rate`.

    Source: the schedule in OpenScene's and SAS's released code.
    """
    return float(base * (1 - _share_done(iteration, total)) ** power)


def released_learning_rate(
    iteration: int, total: int, *, base: float = BASE_RATE, power: float = 0.9
) -> float:
    """Give the rate with which the released code really trained iteration `iteration`.

    The released loop meant a tenfold rate for the parameter groups of a segmentation head. With
    the single group of this training an index slip applies it to the whole network: after each
    iteration ten times the polynomial rate of that iteration is written to the optimiser. So
    iteration 0 uses `base`, every later one ten times the polynomial rate of the one before.
    Use it only to reproduce a published number.

    Args and errors as in `linear_learning_rate`.

    Source: SAS, released code, compared with the stored run of the reference.
    """
    if iteration <= 0:
        return polynomial_learning_rate(iteration, total, base=base, power=power)
    return 10 * polynomial_learning_rate(iteration - 1, total, base=base, power=power)


def _share_done(iteration: int, total: int) -> float:
    if total <= 0:
        raise ValueError(f"total is {total}, expected the number of iterations, > 0")
    if iteration < 0:
        raise ValueError(f"iteration is {iteration}, expected a number >= 0")
    return min(iteration / total, 1.0)
