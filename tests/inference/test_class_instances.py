"""Instances: connected places of one class."""

from __future__ import annotations

import torch

from pcdistill.inference import MIN_POINTS, class_instances


def patch(x, y=0.0):
    """(100, 3) square of 10 x 10 points, a centimetre apart."""
    steps = torch.arange(10) / 100
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([u + x, v + y, torch.zeros_like(u)], dim=-1).reshape(-1, 3)


def instances_of(patches, superpoints, labels):
    points = torch.cat(patches)
    sizes = torch.tensor([len(one) for one in patches])
    ids, classes = (torch.tensor(v).repeat_interleave(sizes) for v in (superpoints, labels))
    found = class_instances(points, ids, classes)
    assert found.dtype == torch.int32
    parts = [torch.unique(part).tolist() for part in found.split(sizes.tolist())]
    assert all(len(part) == 1 for part in parts)
    return [part[0] for part in parts]


def test_touching_superpoints_of_a_class_are_one_instance_and_distant_ones_are_not():
    patches = [patch(0.0), patch(0.1), patch(5.0), patch(0.2)]
    assert instances_of(patches, [0, 1, 2, 3], [4, 4, 4, 7]) == [0, 0, 1, 2]


def test_a_superpoint_of_two_classes_holds_an_instance_of_each():
    assert instances_of([patch(0.0), patch(0.1)], [0, 0], [1, 3]) == [0, 1]


def test_larger_places_of_a_class_come_first():
    patches = [patch(0.0), patch(5.0), patch(5.1)]
    assert instances_of(patches, [0, 1, 2], [2, 2, 2]) == [1, 0, 0]


def test_specks_and_points_without_a_class_belong_to_none():
    speck = patch(9.0)[: MIN_POINTS - 1]
    assert instances_of([speck, patch(0.0), patch(3.0)], [0, 1, 2], [5, -2, 5]) == [-1, -1, 0]


def test_a_single_point_is_no_instance():
    assert class_instances(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([0])).tolist() == [-1]


def test_no_answer_at_all_is_no_instance():
    nothing = torch.full((100,), -2)
    assert instances_of([patch(0.0)], [0], [-2]) == [-1]
    assert class_instances(patch(0.0), torch.zeros(100).long(), nothing).max() == -1
