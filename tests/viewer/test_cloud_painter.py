"""What is sent to the browser: everything once, then only what changed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcdistill.viewer.cloud_painter import CloudPainter, visible_mask
from pcdistill.viewer.detail import build_blocks
from pcdistill.viewer.view_state import Pane

EYE = (1.0, 1.0, 3.0)


class Recorder:
    """Takes point clouds as viser's scene does."""

    def __init__(self) -> None:
        self.clouds = {}
        self.added = 0

    def add_point_cloud(self, name, points, colors, **options):
        self.added += 1
        handle = SimpleNamespace(points=points, colors=colors, **options)
        handle.remove = lambda: self.clouds.pop(name)
        self.clouds[name] = handle
        return handle

    def places(self):
        """(n, 3) of everything that is drawn."""
        return np.concatenate([c.points + np.array(c.position) for c in self.clouds.values()])


@pytest.fixture
def points():
    return torch.rand(500, 3, generator=torch.Generator().manual_seed(3)) * 3


def pane(points, *, offset=(0.0, 0.0, 0.0), color=7):
    everything = torch.ones(len(points), dtype=torch.bool)
    return Pane("a", offset, torch.full((len(points), 3), color, dtype=torch.uint8), everything)


def paint(painter, points, panes, **options):
    blocks = build_blocks(points)
    chosen = {"budget": 10_000, "size": 0.1, "hide_walls": True, **options}
    return painter.paint(points, blocks, panes, EYE, **chosen)


def test_all_points_are_drawn_where_they_are(points):
    scene = Recorder()
    assert paint(CloudPainter(scene), points, [pane(points)]) == 500
    drawn = scene.places()
    assert np.allclose(np.sort(drawn, axis=0), np.sort(points.numpy(), axis=0), atol=1e-5)


def test_a_second_copy_is_moved(points):
    scene = Recorder()
    paint(CloudPainter(scene), points, [pane(points), pane(points, offset=(10.0, 0.0, 0.0))])
    assert len(scene.places()) == 1000
    assert (scene.places()[:, 0] > 9).sum() == 500


def test_other_colors_are_sent_without_the_points(points):
    scene = Recorder()
    painter = CloudPainter(scene)
    paint(painter, points, [pane(points)])
    before = scene.added
    paint(painter, points, [pane(points, color=9)])
    assert scene.added == before
    assert all((cloud.colors == 9).all() for cloud in scene.clouds.values())


def test_hidden_points_go_and_come_back(points):
    scene = Recorder()
    painter = CloudPainter(scene)
    whole = pane(points)
    paint(painter, points, [whole])
    left = points[:, 0] < 1
    paint(painter, points, [whole._replace(shown=left)])
    assert len(scene.places()) == int(left.sum())
    paint(painter, points, [whole._replace(shown=torch.zeros(500, dtype=torch.bool))])
    assert not scene.clouds
    paint(painter, points, [whole])
    assert len(scene.places()) == 500


def test_the_budget_is_that_of_all_copies(points):
    scene = Recorder()
    blocks = build_blocks(points)
    paint(CloudPainter(scene), points, [pane(points)] * 2, budget=200)
    assert len(scene.places()) <= 200 + 2 * len(blocks)


def test_walls_are_hidden_from_behind_only(points):
    wall = points * torch.tensor([1.0, 0.0, 1.0])
    normals = torch.tensor([[0.0, 1, 0]]).repeat(500, 1)
    blocks, scene = build_blocks(wall, normals), Recorder()
    painter, behind = CloudPainter(scene), (1.0, -4.0, 1.0)
    options = {"budget": 1000, "size": 0.1}
    assert painter.paint(wall, blocks, [pane(wall)], behind, hide_walls=True, **options) == 0
    assert not any(cloud.visible for cloud in scene.clouds.values())
    assert painter.paint(wall, blocks, [pane(wall)], EYE, hide_walls=True, **options) == 500
    assert painter.paint(wall, blocks, [pane(wall)], behind, hide_walls=False, **options) == 500
    assert all(cloud.visible for cloud in scene.clouds.values())
    assert not bool(visible_mask(blocks, behind, 500).any())
    assert bool(visible_mask(blocks, EYE, 500).all())


def test_clearing_takes_everything_away(points):
    scene = Recorder()
    painter = CloudPainter(scene)
    paint(painter, points, [pane(points)])
    painter.clear()
    assert not scene.clouds
    paint(painter, points, [pane(points)])
    assert len(scene.places()) == 500
