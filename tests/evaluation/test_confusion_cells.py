"""Confusion matrices as lists of cells, there and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.evaluation import ConfusionMatrix, confusion_cells, confusion_counts
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL


@given(classes=st.integers(1, 7), points=st.integers(0, 60), seed=st.integers(0, 999))
def test_the_cells_say_the_same_as_the_matrix(classes, points, seed):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(-1, classes, (points,), generator=generator)
    predicted[predicted < 0] = NO_FEATURE_LABEL
    labels = torch.randint(IGNORE_LABEL, classes, (points,), generator=generator)
    matrix = ConfusionMatrix(classes)
    matrix.update(predicted, labels)
    cells = confusion_cells(matrix.counts)
    assert torch.equal(confusion_counts(cells, classes), matrix.counts)
    assert all(points > 0 for _, _, points in cells)


def test_a_cell_is_predicted_true_and_points():
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([2, 2, NO_FEATURE_LABEL]), torch.tensor([1, 1, 0]))
    assert confusion_cells(matrix.counts) == [[2, 1, 2], [3, 0, 1]]


def test_what_lacks_a_row_of_no_answer_is_refused():
    with pytest.raises(ValueError, match="counts has shape"):
        confusion_cells(torch.zeros(3, 3))
