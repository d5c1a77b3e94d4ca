"""Stage partition on sheets of points that can be cut in one way only."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from pcdistill.artifacts.superpoints import load_superpoint_ids
from pcdistill.errors import SceneError
from pcdistill.scenes import Scene
from pcdistill.stages.partition import PartitionStage
from tests.stages.followed import Outcomes, follows
from tests.stages.toy import SCENE, store, toy_run, work

SIDE = 10
COUNT = SIDE * SIDE


def sheet(**known) -> Scene:
    """A flat square of points a tenth of a metre apart, row by row."""
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    points = 0.1 * torch.stack([row.flatten(), column.flatten(), torch.zeros(COUNT)], dim=1)
    up = torch.tensor([0.0, 0, 1]).repeat(COUNT, 1)
    return Scene(SCENE, **{"points": points, "normals": up, **known})


def tilted(points: int, degrees: float) -> torch.Tensor:
    """(COUNT, 3) normals: the last ones lean by some degrees."""
    normals = torch.tensor([0.0, 0, 1]).repeat(COUNT, 1)
    angle = math.radians(degrees)
    normals[COUNT - points :] = torch.tensor([math.sin(angle), 0.0, math.cos(angle)])
    return normals


def faces(rows) -> torch.Tensor:
    """Triangles of the squares that begin in these rows."""
    corners = [SIDE * row + column for row in rows for column in range(SIDE - 1)]
    ones = [(a, a + 1, a + SIDE) for a in corners]
    others = [(a + 1, a + SIDE + 1, a + SIDE) for a in corners]
    return torch.tensor(ones + others)


def pieces(folder, scene: Scene, **settings) -> list[list[int]]:
    """The points of each superpoint, in the order of their first points."""
    run = toy_run(folder, partition={"min_size": 1, "method": "neighbors", **settings})
    store(run, scene)
    work(PartitionStage, run, SCENE)
    ids = load_superpoint_ids(run.workspace, SCENE)
    assert sorted(ids.unique().tolist()) == list(range(int(ids.max()) + 1))
    found = [(ids == number).nonzero()[:, 0].tolist() for number in range(int(ids.max()) + 1)]
    return sorted(found)


def parts(*sizes: int) -> list[list[int]]:
    """Consecutive points in parts of these sizes."""
    ends = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    return [list(range(a, b)) for a, b in pairwise(ends)]


@follows("partition.threshold")
def test_threshold(tmp_path) -> Outcomes:
    """A fold of thirty degrees parts the sheet where less than it is let pass."""
    for value, right in ((0.01, parts(50, 50)), (50.0, parts(100))):
        yield pieces(tmp_path / str(value), sheet(normals=tilted(50, 30)), threshold=value), right


@follows("partition.min_size")
def test_min_size(tmp_path) -> Outcomes:
    """Twenty points that lean the other way are a superpoint where twenty are enough."""
    for value, right in ((20, parts(80, 20)), (21, parts(100))):
        yield pieces(tmp_path / str(value), sheet(normals=tilted(20, 60)), min_size=value), right


@follows("partition.neighbors")
def test_neighbors(tmp_path) -> Outcomes:
    """Two rows whose points are nearer to four others of their row than to the other row."""
    line = 0.1 * torch.arange(20.0)
    rows = [torch.stack([line, torch.full((20,), y), torch.zeros(20)], dim=1) for y in (0, 0.45)]
    up = torch.tensor([0.0, 0, 1]).repeat(40, 1)
    scene = Scene(SCENE, torch.cat(rows), normals=up)
    for value, right in ((3, parts(20, 20)), (15, parts(40))):
        yield pieces(tmp_path / str(value), scene, neighbors=value), right


@follows("partition.color_weight")
def test_color_weight(tmp_path) -> Outcomes:
    """A sheet that is half black, half white."""
    colors = torch.zeros(COUNT, 3, dtype=torch.uint8)
    colors[50:] = 255
    for value, right in ((0.0, parts(100)), (1.0, parts(50, 50))):
        yield pieces(tmp_path / str(value), sheet(colors=colors), color_weight=value), right


@follows("partition.method")
def test_method(tmp_path) -> Outcomes:
    """Faces join the first four rows and the last six; neighbours join all."""
    mesh = sheet(faces=faces([0, 1, 2, 4, 5, 6, 7, 8]))
    alone, whole, each = parts(40, 60), parts(100), parts(*[1] * COUNT)
    for value, right in (
        ("auto", {"mesh": alone, "cloud": whole}),
        ("mesh", {"mesh": alone, "cloud": "refused"}),
        ("neighbors", {"mesh": whole, "cloud": whole}),
        ("none", {"mesh": each, "cloud": each}),
    ):
        found: dict[str, object] = {}
        for kind, scene in (("mesh", mesh), ("cloud", sheet())):
            try:
                found[kind] = pieces(tmp_path / value / kind, scene, method=value)
            except SceneError:
                found[kind] = "refused"
        yield found, right


def test_more_pieces_than_short_numbers_are_kept_apart(tmp_path):
    count = 2**15 + 5
    scene = Scene(SCENE, torch.stack([torch.arange(count).float()] * 3, dim=1))
    run = toy_run(tmp_path, partition={"method": "none"})
    store(run, scene)
    work(PartitionStage, run, SCENE)
    assert torch.equal(load_superpoint_ids(run.workspace, SCENE), torch.arange(count))


@pytest.mark.parametrize("method", ["mesh", "neighbors"])
def test_colors_count_in_either_way_of_cutting(tmp_path, method):
    colors = torch.zeros(COUNT, 3, dtype=torch.uint8)
    colors[50:] = 255
    scene = sheet(colors=colors, faces=faces(range(SIDE - 1)))
    assert pieces(tmp_path / "with", scene, method=method, color_weight=1.0) == parts(50, 50)
    assert pieces(tmp_path / "without", scene, method=method) == parts(100)
