"""A step that is worked on in parts is the step of the whole batch, up to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcdistill.distillation.scene_deal import cut_evenly, deal_epoch
from pcdistill.distillation.trainer import Trainer
from pcdistill.sparse import SparseBatchNorm
from tests.distillation.test_trainer_by_hand import (
    CPU,
    TEXT,
    Matrix,
    inputs_of,
    settings,
    small_scene,
    speakers,
)
from tests.tolerances import FLOAT32_SUMS

SCENES = tuple(small_scene(f"scene {n}", n, 2 + n % 3) for n in range(8))


def trained(network: nn.Module, scenes=SCENES, *, target="superpoint", ensemble=False, **changes):
    """Losses, gradient norms and voxels of each step, and the state at the end."""
    torch.manual_seed(1)
    how = settings(**{"batch_size": 8, "augment": "full", "ensemble_start": 0.5, **changes})
    learner = Trainer(network, scenes, TEXT, how, CPU, target=target, ensemble=ensemble)
    steps = []
    while not learner.finished:
        learner.train_epoch(note=steps.append)
    told = [(s.loss, s.ensemble_loss, s.gradient_norm, float(s.voxels)) for s in steps]
    return torch.tensor(told), {key: value.clone() for key, value in learner.state().items()}


@pytest.mark.parametrize("parts", [2, 4, 8, 3])
@pytest.mark.parametrize(
    ("target", "ensemble", "changes"),
    [
        ("superpoint", False, {}),
        ("superpoint", True, {"max_voxels_per_step": 30}),
        ("point", False, {"max_voxels_per_step": 30, "max_gradient_norm": 0.1}),
    ],
    ids=["superpoint", "ensemble", "point"],
)
def test_a_batch_of_eight_in_parts_is_one_of_eight(target, ensemble, changes, parts):
    how = {"target": target, "ensemble": ensemble, **changes}
    whole, in_parts = (trained(Matrix(), accumulate=n, **how) for n in (1, parts))
    torch.testing.assert_close(in_parts[0], whole[0], rtol=1e-5, atol=FLOAT32_SUMS)
    assert bool((whole[0][-1, 1] > 0) == ensemble)
    assert in_parts[1].keys() == whole[1].keys()
    for key, value in whole[1].items():
        torch.testing.assert_close(in_parts[1][key], value, rtol=1e-4, atol=1e-5, msg=key)


class Normalized(nn.Module):
    """Every voxel's input, normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.matrix = SparseBatchNorm(4), Matrix()

    def forward(self, x):
        return self.matrix(self.norm(x))


def test_batch_norms_take_the_statistics_of_a_part():
    """Each part moves the running mean a tenth of the way to its own."""
    scenes = SCENES[:2]
    how = {"batch_size": 2, "augment": "none", "epochs": 1}
    order = torch.randperm(2, generator=torch.Generator().manual_seed(0)).tolist()
    inputs = [inputs_of(scenes[i])[sorted(set(speakers(scenes[i]).values()))] for i in order]
    means = [one.mean(dim=0) for one in inputs]
    _, state = trained(Normalized(), scenes, accumulate=2, **how)
    expected = 0.9 * 0.1 * means[0] + 0.1 * means[1]
    torch.testing.assert_close(state["model/norm.bn.running_mean"], expected)
    _, state = trained(Normalized(), scenes, accumulate=1, **how)
    expected = 0.1 * torch.cat(inputs).mean(dim=0)
    torch.testing.assert_close(state["model/norm.bn.running_mean"], expected)


def test_a_batch_is_cut_into_parts_of_nearly_one_size():
    assert cut_evenly([5, 3, 8, 1, 2], 2) == [[5, 3], [8, 1, 2]]
    assert cut_evenly([5, 3, 8, 1], 4) == [[5], [3], [8], [1]]
    assert cut_evenly([5, 3], 3) == [[5], [3]]
    assert cut_evenly([5, 3], 1) == [[5, 3]]


def test_each_part_is_dealt_by_itself():
    """As a whole the second process would get both of the first part."""
    sizes = [9, 1, 9, 1]
    assert deal_epoch([[1, 3, 0, 2]], sizes, 2) == [0, 0, 1, 1]
    owners = deal_epoch([[1, 3, 0, 2]], sizes, 2, 2)
    assert {owners[1], owners[3]} == {owners[0], owners[2]} == {0, 1}
