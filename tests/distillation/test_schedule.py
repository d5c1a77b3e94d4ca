"""Learning rates against the reference and by hand."""

import numpy as np
import pytest

from pcdistill.distillation import (
    linear_learning_rate,
    polynomial_learning_rate,
    released_learning_rate,
)
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT64_EXACT


@pytest.mark.parametrize("file", golden_cases("distill/poly_lr*.npz"))
def test_polynomial_and_released_rates_are_the_reference(file):
    case = load_npz(file)
    base, total, power = float(case["base_lr"]), int(case["max_iter"]), float(case["power"])
    settings = {"base": base, "power": power}
    for iteration, rate, written in zip(
        case["iteration"].tolist(), case["lr"], case["optimizer_lr_after_iteration"], strict=True
    ):
        ours = polynomial_learning_rate(iteration, total, **settings)
        assert ours == pytest.approx(rate, rel=FLOAT64_EXACT)
        used_next = released_learning_rate(iteration + 1, total, **settings)
        assert used_next == pytest.approx(written, rel=FLOAT64_EXACT)
    assert released_learning_rate(0, total, **settings) == base


def test_linear_rate_goes_from_base_to_final():
    rates = [linear_learning_rate(i, 4) for i in range(7)]
    np.testing.assert_allclose(
        rates, np.array([10, 7.75, 5.5, 3.25, 1, 1, 1]) * 1e-5, rtol=FLOAT64_EXACT
    )


def test_polynomial_rate_by_hand():
    assert polynomial_learning_rate(3, 4, base=2.0, power=2.0) == pytest.approx(2 / 16)
    assert polynomial_learning_rate(4, 4) == 0
    assert released_learning_rate(4, 4, base=2.0, power=2.0) == pytest.approx(20 / 16)


@pytest.mark.parametrize(
    "rate", [linear_learning_rate, polynomial_learning_rate, released_learning_rate]
)
def test_impossible_iterations_are_named(rate):
    with pytest.raises(ValueError, match="total is 0, expected the number of iterations"):
        rate(0, 0)
    with pytest.raises(ValueError, match="iteration is -1"):
        rate(-1, 10)
