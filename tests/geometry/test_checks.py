"""Argument checks: the sentence names the argument, what was found and what was expected."""

import pytest
import torch

from pcdistill.geometry import require_finite, require_shape


def test_fitting_shapes_pass():
    require_shape("points", torch.zeros(5, 3), None, 3)
    require_shape("scalar", torch.zeros(()))


@pytest.mark.parametrize("shape", [(3,), (5, 2), (1, 5, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"^points has shape .* expected \(any, 3\)$"):
        require_shape("points", torch.zeros(shape), None, 3)


def test_non_finite_values_are_counted():
    require_finite("values", torch.arange(4))
    with pytest.raises(ValueError, match=r"^values has 2 non-finite values of 3"):
        require_finite("values", torch.tensor([0.0, float("nan"), float("-inf")]))
