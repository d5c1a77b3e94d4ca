"""Homes: the same from the same seed, furnished with every class, walkable."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pcdistill.errors import ConfigError
from pcdistill.homes import (
    CLASSES,
    MATERIALS,
    Home,
    build_home,
    intrinsics_from_fov,
    plan_camera_path,
    render,
)
from pcdistill.homes.home import SPLITS, seed_sequence
from pcdistill.homes.mesh import scan_mesh
from pcdistill.homes.placement import bounding_box
from tests.homes.visible import visible_vertices

SEEDS = (0, 1, 2, 3)


@cache
def home(seed: int, split: str = "train") -> Home:
    return build_home(seed, split)


def test_the_same_seed_gives_the_same_home():
    again = build_home(1, "train")
    first = home(1)
    np.testing.assert_array_equal(first.surface.corners, again.surface.corners)
    np.testing.assert_array_equal(first.surface.colors, again.surface.colors)
    assert first.instances == again.instances
    for here, there in zip(
        plan_camera_path(first, 5, 3), plan_camera_path(again, 5, 3), strict=True
    ):
        torch.testing.assert_close(here, there, rtol=0, atol=0)


def test_another_seed_or_split_gives_another_home():
    shapes = {home(seed).surface.corners.tobytes() for seed in SEEDS}
    shapes |= {home(0, split).surface.corners.tobytes() for split in SPLITS}
    assert len(shapes) == len(SEEDS) + len(SPLITS) - 1


def test_splits_share_no_stream_of_random_numbers():
    states = [
        tuple(child.generate_state(4))
        for split in SPLITS
        for seed in range(300)
        for child in seed_sequence(split, seed).spawn(2)
    ]
    assert len(set(states)) == len(states)


def test_an_unknown_split_is_named_with_a_suggestion():
    expected = "homes: there is no split 'validaton'; did you mean 'validation'?"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        build_home(0, "validaton")


def test_a_negative_seed_is_refused():
    with pytest.raises(ConfigError, match=r"homes: seed is -1, expected 0 or more"):
        build_home(-1, "train")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_home_has_three_to_five_rooms_of_a_flat(seed):
    areas = [space.room.rect.width * space.room.rect.depth for space in home(seed).spaces]
    assert 3 <= len(areas) <= 5
    assert 24 <= sum(areas) <= 40
    assert all(2.4 <= space.room.height <= 2.6 for space in home(seed).spaces)


def test_every_class_is_present_with_some_surface():
    area: Counter[int] = Counter()
    for seed in SEEDS:
        surface = home(seed).surface
        diagonals = np.cross(
            surface.corners[:, 2] - surface.corners[:, 0],
            surface.corners[:, 3] - surface.corners[:, 1],
        )
        size = np.linalg.norm(diagonals, axis=1) / 2
        for index in range(len(CLASSES)):
            area[index] += float(size[surface.classes == index].sum())
    lacking = [CLASSES[index] for index in range(len(CLASSES)) if area[index] < 0.5 * len(SEEDS)]
    assert lacking == []


def test_most_homes_have_every_class():
    lacking = Counter(
        name
        for seed in SEEDS
        for name in set(CLASSES) - {instance.category for instance in home(seed).instances}
    )
    assert sum(lacking.values()) <= 1, lacking


def test_instances_describe_the_surface():
    surface, instances = home(0).surface, home(0).instances
    assert surface.instances.max() == len(instances) - 1
    for number, instance in enumerate(instances):
        patches = surface.instances == number
        assert {CLASSES[index] for index in surface.classes[patches]} == {instance.category}
        assert instance.material in {MATERIALS[index] for index in surface.materials[patches]}


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_furniture_stays_in_its_room_and_apart(seed):
    for space in home(seed).spaces:
        r = space.room.rect
        standing = [model for model in space.models if _stands_free(model)]
        blocks = [bounding_box(model) for model in standing]
        for block in blocks:
            assert block.x0 > r.x0 - 0.02
            assert block.x1 < r.x1 + 0.02
            assert block.y0 > r.y0 - 0.02
            assert block.y1 < r.y1 + 0.02
        big = [b for b, model in zip(blocks, standing, strict=True) if b.z0 < 0.01]
        overlaps = [(a, b) for i, a in enumerate(big) for b in big[i + 1 :] if a.meets(b)]
        assert overlaps == []


def _stands_free(model) -> bool:
    return model.pieces[0].category not in ("door", "window", "curtain")


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_cameras_stand_in_free_space_at_human_height(seed):
    walk = plan_camera_path(home(seed), 28, seed)
    assert len(walk) == 28
    tree = cKDTree(scan_mesh(home(seed).surface).points.numpy())
    for pose in walk:
        place = pose[:3, 3].numpy()
        assert 1.2 <= place[2] <= 1.7
        assert tree.query(place)[0] > 0.35
        torch.testing.assert_close(pose[:3, :3] @ pose[:3, :3].T, torch.eye(3).double())
        assert float(torch.linalg.det(pose[:3, :3])) == pytest.approx(1)
        assert pose[2, 1] < 0  # the camera's +y looks down
        assert -0.75 < float(pose[2, 2]) <= 0.01  # and it looks level or down


def test_a_walk_enters_every_room():
    poses = plan_camera_path(home(0), 24, 0)
    for space in home(0).spaces:
        r = space.room.rect
        assert any(r.x0 < p[0, 3] < r.x1 and r.y0 < p[1, 3] < r.y1 for p in poses)


def test_a_walk_sees_most_of_what_can_be_seen():
    mesh, matrix = scan_mesh(home(1).surface), intrinsics_from_fov((120, 160), 70.0)

    def seen_by(poses):
        seen = torch.zeros(len(mesh.points), dtype=torch.bool)
        for pose in poses:
            view = render(home(1).surface, pose, matrix, (120, 160), shadows=False)
            seen |= visible_vertices(mesh.points, pose, matrix, view)
        return seen & (mesh.classes != CLASSES.index("ceiling"))

    some = seen_by(plan_camera_path(home(1), 28, 0))
    all_ = some | seen_by(plan_camera_path(home(1), 110, 1))
    assert some.sum() > 0.78 * all_.sum()


def test_a_walk_needs_a_pose():
    with pytest.raises(ValueError, match=r"count must be >= 1, got 0"):
        plan_camera_path(home(0), 0, 0)
