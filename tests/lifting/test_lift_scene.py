"""What lifting gives a teacher whose outlines follow the surface, and what it leaves out."""

from __future__ import annotations

import pytest
import torch

from pcdistill.homes import home_scene
from pcdistill.lifting import ProjectionRules, lift_scene
from pcdistill.lifting.lift_scene import make_projector_fn
from pcdistill.teachers import LabelledMasks

RULES = ProjectionRules(depth_tolerance=0.05, border=2)


def nothing(done, total, words):
    """A report that nobody reads."""


@pytest.fixture(scope="module")
def home():
    return home_scene(3, "train", frames=24, image_size=(48, 64))


class SurfaceTeacher:
    """One mask where a point of superpoint 1 lands; keeps what it was given."""

    name, text_space, dimensions, provenance = "surface", "none", 2, {}
    min_spoken = 0.0

    def __init__(self):
        self.given = []

    def __call__(self, image):
        raise AssertionError("a scan's frames come with their geometry")

    def predict_views(self, images, geometry):
        assert len(images) == len(geometry)
        self.given += list(geometry)
        return [self.see(image, known) for image, known in zip(images, geometry, strict=True)]

    def see(self, image, known):
        ids = torch.full(image.shape[1:], -1, dtype=torch.int32)
        if known.superpoint_ids is not None:
            ids[known.superpoint_ids == 1] = 0
        return LabelledMasks(ids, torch.eye(2)[:1], ("one",), ("one",))


def test_a_teacher_that_follows_the_surface_is_given_depth_and_superpoints(home):
    teacher, ids = SurfaceTeacher(), torch.arange(len(home.points)) % 7
    lifted = lift_scene(home, teacher, RULES, nothing, superpoint_ids=ids, batch=2)
    assert len(teacher.given) == len(home.frames)
    see_points = make_projector_fn(home, RULES)
    for frame, known in zip(home.frames, teacher.given, strict=True):
        assert torch.equal(known.depth, frame.depth())
        (seen, pixels), _ = see_points(frame)
        column, row = pixels.unbind(dim=1)
        landed = torch.zeros(frame.image_size, dtype=torch.bool)
        landed[row, column] = True
        assert torch.equal(known.superpoint_ids >= 0, landed)
        alone = torch.bincount(row * frame.image_size[1] + column)[
            row * frame.image_size[1] + column
        ]
        only = alone == 1
        assert torch.equal(known.superpoint_ids[row, column][only].long(), ids[seen][only])
    spoken = lifted.result().seen
    assert len(spoken) > 100
    assert (ids[spoken] == 1).float().mean() > 2 / 7  # several points may share a pixel


def test_without_superpoints_it_is_given_the_depth_alone(home):
    teacher = SurfaceTeacher()
    lifted = lift_scene(home, teacher, RULES, nothing)
    assert all(known.superpoint_ids is None for known in teacher.given)
    assert all(known.depth is not None for known in teacher.given)
    assert len(lifted.result().seen) == 0


class SilentMostly:
    """Speaks about every pixel of its first image and about none of the others."""

    name, text_space, dimensions, provenance = "once", "none", 2, {}

    def __init__(self, min_spoken):
        self.min_spoken = min_spoken
        self.shown = 0

    def __call__(self, image):
        self.shown += 1
        ids = torch.full(image.shape[1:], 0 if self.shown == 1 else -1, dtype=torch.int32)
        return LabelledMasks(ids, torch.eye(2)[:1], ("one",), ("one",))


def test_what_a_teacher_is_nearly_always_silent_about_is_left_out(home):
    every = lift_scene(home, SilentMostly(0.0), RULES, nothing)
    often = lift_scene(home, SilentMostly(0.6), RULES, nothing)
    views, told = every.views, every.result().seen
    assert torch.equal(often.result().seen, told[views[told] == 1])
    assert 0 < len(often.result().seen) < len(told)


def test_superpoints_are_left_out_as_a_whole(home):
    ids = (home.points[:, 0] > home.points[:, 0].median()).long()
    lifted = lift_scene(home, SilentMostly(0.3), RULES, nothing, superpoint_ids=ids)
    every = lift_scene(home, SilentMostly(0.0), RULES, nothing)
    views, told = every.views.double(), torch.zeros(len(ids), dtype=torch.bool)
    told[every.result().seen] = True
    share = torch.bincount(ids, told.double()) / torch.bincount(ids, views)
    expected = (told & (share >= 0.3)[ids]).nonzero()[:, 0]
    assert torch.equal(lifted.result().seen, expected)
