"""Several prompts for one class: the class is that of the best prompt, in labels and in losses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pcdistill.distillation import TemporalEnsemble, self_distillation_loss
from pcdistill.distillation.class_scores import class_scores
from pcdistill.scenes import load_label_set
from tests.conftest import golden_cases, load_npz

MAPPING = torch.tensor([1, 0, 1, 2])


def test_a_class_has_the_score_of_its_best_prompt_and_its_gradient():
    scores = torch.tensor([[0.1, 0.2, 0.3, -4], [5, -7, -2, -9.0]], requires_grad=True)
    found = class_scores(scores, MAPPING)
    assert found.tolist() == torch.tensor([[0.2, 0.3, -4], [-7, 5, -9.0]]).tolist()
    found[:, 1].sum().backward()
    assert scores.grad.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert class_scores(scores, None) is scores
    with pytest.raises(ValueError, match="class_of_prompt"):
        class_scores(scores, MAPPING[:3])


def test_the_loss_is_that_over_classes():
    generator = torch.Generator().manual_seed(3)
    student, text = torch.randn(6, 5, generator=generator), torch.randn(4, 5, generator=generator)
    ids, point = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 1, 2, 1, 0, 2])
    table = torch.tensor([2, 1, 0])
    found = self_distillation_loss(student, ids, text, point, table, 0.5, MAPPING)

    def entropy(rows, labels):
        prompts = rows @ text.T / 0.5
        classes = torch.stack([prompts[:, 1], prompts[:, [0, 2]].amax(1), prompts[:, 3]], dim=1)
        return functional.cross_entropy(classes, labels)

    pooled = torch.stack([student[ids == i].mean(dim=0) for i in range(3)])
    torch.testing.assert_close(found.point, entropy(student, point))
    torch.testing.assert_close(found.superpoint, entropy(pooled, table))


def ensemble_of(
    scores: torch.Tensor, mapping: torch.Tensor | None, ids: torch.Tensor | None = None
) -> TemporalEnsemble:
    """One whose history is these scores (N, P), or their means in superpoints."""
    how = "point" if ids is None else "superpoint"
    text = torch.eye(scores.shape[1])
    ensemble = TemporalEnsemble(text, 0.5, class_of_prompt=mapping, point_labels=how)
    ensemble.initialize("scene", scores, superpoint_ids=ids)
    return ensemble


@pytest.mark.parametrize("file", golden_cases("metrics/nuscenes_details*.npz"))
def test_pseudo_labels_are_of_the_classes_that_the_reference_s_inference_gives(file):
    """43 prompts, 16 classes; every point its own superpoint, as in nuScenes."""
    case = load_npz(file)
    scores = torch.from_numpy(case["logits_run1"]).float()
    mapping = torch.from_numpy(case["mapping"]).long()
    assert torch.equal(mapping, load_label_set("nuscenes16").mapping)
    expected = torch.from_numpy(case["pred16_run1"]).long()
    labels = ensemble_of(scores, mapping).pseudo_labels("scene", torch.arange(len(scores)))
    assert torch.equal(labels.point, expected)
    assert torch.equal(labels.superpoint, expected)
    own = class_scores(scores, mapping)
    assert own.shape == (len(scores), 16)
    assert torch.equal(own.argmax(dim=1), expected)


def test_a_superpoint_has_the_class_of_the_best_prompt_of_its_mean():
    """Not the class that most of its points have, nor that of the best class scores' mean."""
    scores = torch.tensor([[3.0, 0, 2, 0], [0, 0, 2, 0], [0.0, 2.9, 0, 0]])
    ids = torch.tensor([0, 0, 0])
    ensemble = ensemble_of(scores, MAPPING)
    labels = ensemble.pseudo_labels("scene", ids)
    assert labels.point.tolist() == [1, 1, 0]
    assert labels.superpoint.tolist() == [1]  # means 1, 0.97, 1.33, 0: prompt 2 of class 1
    again = ensemble_of(scores, MAPPING, ids).pseudo_labels("scene", ids)
    assert again.point.tolist() == [1, 1, 1]
    assert ensemble_of(scores, None).pseudo_labels("scene", ids).point.tolist() == [0, 2, 1]


def test_a_history_of_prompts_goes_on_where_it_stopped():
    scores = torch.rand(5, 4)
    one, other = ensemble_of(scores, MAPPING), ensemble_of(torch.rand(5, 4), MAPPING)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.history("scene"), scores)
    with pytest.raises(ValueError, match="class_of_prompt"):
        TemporalEnsemble(torch.eye(3), class_of_prompt=MAPPING)
