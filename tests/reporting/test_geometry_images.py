"""The pictures of a scan's geometry show what is seen, by how many frames, and by which pieces."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from pcdistill.artifacts import projection_rules
from pcdistill.homes import home_scene
from pcdistill.pipeline.config import LiftConfig
from pcdistill.reporting import geometry_images as pictures
from pcdistill.visualization import UNSEEN, colorize_superpoints


@pytest.fixture(scope="module")
def home():
    return home_scene(3, "train", frames=4, image_size=(48, 64))


def drawn(home, ids, views, monkeypatch):
    """The pictures, and the colours of the points in those of the whole scan."""
    monkeypatch.setattr(pictures, "load_superpoint_ids", lambda workspace, name: ids)
    features = SimpleNamespace(
        teachers=("demo-dense",),
        rules=projection_rules(LiftConfig(border=2)),
        view_counts=lambda teacher, name: views,
    )
    colors = []

    def draw(of_points):
        colors.append(of_points)
        return torch.zeros(4, 4, 3, dtype=torch.uint8)

    return list(pictures.geometry_pictures(None, features, home, draw)), colors


def test_points_that_no_frame_sees_are_told_from_those_that_few_see(home, monkeypatch):
    count = len(home.points)
    views = torch.ones(count, dtype=torch.int32)
    views[: count // 4] = 0
    views[-5:] = 3
    found, (pieces, seen) = drawn(home, torch.arange(count) // 100, views, monkeypatch)
    unseen = torch.tensor(UNSEEN, dtype=torch.uint8)
    torch.testing.assert_close((seen == unseen).all(dim=1), views == 0)
    assert len(torch.unique(seen, dim=0)) == 3
    assert found[1].scale.other.name == "none, 25 %"
    torch.testing.assert_close(pieces, colorize_superpoints(torch.arange(count) // 100))
    assert all(re.search(r"points it sees, coloured by superpoint$", p.caption) for p in found[2:])
    assert len(found) == 4


def test_without_pieces_overlays_show_distance_with_its_scale(home, monkeypatch):
    count = len(home.points)
    views = torch.ones(count, dtype=torch.int32)
    found, _ = drawn(home, torch.arange(count), views, monkeypatch)
    assert found[0].caption == f"{count} superpoints, one for each point"
    for overlay in found[2:]:
        assert overlay.caption.endswith("coloured by distance")
        assert 15 > overlay.scale.low > overlay.scale.high > 0.1  # metres, in a home
