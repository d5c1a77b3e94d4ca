"""A batch of more voxels than fit in is worked on in parts, which make the step of the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pcdistill.distillation.trainer import Trainer
from pcdistill.distillation.voxel_limit import cut_by_size
from pcdistill.errors import ConfigError
from tests.distillation.test_accumulation import SCENES, trained
from tests.distillation.test_trainer_by_hand import CPU, TEXT, Matrix, settings
from tests.tolerances import FLOAT32_SUMS

VOXELS = 12
"""Of each of `SCENES` as it was scanned."""


class Shown(Matrix):
    """Notes how many voxels it is shown at once."""

    def __init__(self) -> None:
        super().__init__()
        self.voxels: list[int] = []

    def forward(self, x):
        self.voxels.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize(
    ("ensemble", "changes"),
    [
        (False, {"max_voxels_per_step": 0}),
        (True, {"max_voxels_per_step": 30, "max_gradient_norm": 0.1}),
        (True, {"max_voxels_per_step": 30, "accumulate": 2, "ensemble_preset": "targets"}),
    ],
    ids=["all voxels", "drawn voxels", "parts of parts"],
)
def test_a_step_in_parts_is_the_step_of_the_whole(ensemble, changes):
    """Losses, lengths of gradients, voxels, and what is left in the end."""
    whole = trained(Matrix(), ensemble=ensemble, **changes)
    limited = Shown()
    found = trained(limited, ensemble=ensemble, max_voxels_per_batch=3 * VOXELS, **changes)
    assert max(limited.voxels) <= 3 * VOXELS
    torch.testing.assert_close(found[0], whole[0], rtol=1e-5, atol=FLOAT32_SUMS)
    assert found[1].keys() == whole[1].keys()
    for key, value in whole[1].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_there_are_as_few_parts_as_fit():
    """Eight scenes of 12 voxels, unchanged: three at once."""
    network = Shown()
    trained(network, max_voxels_per_batch=3 * VOXELS + 1, augment="none", epochs=1)
    assert network.voxels == [36, 36, 24]


def test_it_is_said_once_in_the_log(caplog):
    trained(Matrix(), max_voxels_per_batch=2 * VOXELS, augment="none")
    assert caplog.text.count("WARNING") == 1
    assert "a batch of 8 scenes has 96 voxels, more than distill.max_voxels_per_batch (24): " in (
        caplog.text
    )
    assert "in 4 parts" in caplog.text


def test_a_scene_that_augmentation_makes_too_large_is_a_part_of_its_own(caplog):
    network = Shown()
    trained(network, max_voxels_per_batch=VOXELS, augment="full")
    assert max(network.voxels) > VOXELS
    assert "more than distill.max_voxels_per_batch (12); it is worked on by itself" in caplog.text
    assert caplog.text.count("it is worked on by itself") <= len(SCENES)


def test_a_scene_that_does_not_fit_in_is_refused_before_the_first_step():
    larger = replace(SCENES[3], name="hall", points=SCENES[3].points * 1.5)
    how = settings(max_voxels_per_batch=15)
    with pytest.raises(ConfigError, match=r"is 15 but scene 'hall' has \d+ voxels, .* raise it"):
        Trainer(Matrix(), [*SCENES, larger], TEXT, how, CPU)
    Trainer(Matrix(), SCENES, TEXT, how, CPU)


@given(sizes=st.lists(st.integers(0, 20), min_size=1, max_size=30), limit=st.integers(1, 40))
@hypothesis_settings(max_examples=30, deadline=None)
def test_parts_are_full_and_fit(sizes, limit):
    ends = cut_by_size(sizes, limit)
    assert ends == sorted(set(ends))
    assert ends[-1] == len(sizes)
    for first, end in zip([0, *ends], ends, strict=False):
        assert sum(sizes[first:end]) <= limit or end == first + 1
        if end < len(sizes):
            assert sum(sizes[first : end + 1]) > limit  # the next one did not fit in


def test_below_zero_is_refused():
    with pytest.raises(ConfigError, match=r"distill\.max_voxels_per_batch must be 0 \(no limit\)"):
        settings(max_voxels_per_batch=-1)
