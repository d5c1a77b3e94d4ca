"""Scans: meshes with labels, scenes that agree with their frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pcdistill.errors import ConfigError
from pcdistill.homes import (
    CLASSES,
    build_home,
    home_scene,
    intrinsics_from_fov,
    plan_camera_path,
    render,
)
from pcdistill.homes.mesh import scan_mesh
from pcdistill.homes.primitives import box
from pcdistill.scenes import IGNORE_LABEL, load_label_set
from tests.homes.test_render import surface_of
from tests.homes.visible import visible_vertices

SMALL = (96, 128)


@pytest.fixture(scope="module")
def scene():
    return home_scene(5, "validation", frames=12, image_size=SMALL)


def test_a_scanned_box_is_one_welded_mesh():
    mesh = scan_mesh(surface_of(box((0, 0, 0), (1.0, 0.5, 0.4))), 0.1)
    assert len(mesh.points) == 2 * (10 * 5 + 10 * 4 + 5 * 4) + 2  # lattice points on the shell
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).numpy()
    graph = coo_matrix((np.ones(len(edges)), edges.T), (len(mesh.points), len(mesh.points)))
    assert connected_components(graph, directed=False)[0] == 1
    ordered, times = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    assert len(ordered) == len(mesh.points) + len(mesh.faces) - 2  # Euler: closed, no holes
    assert (times == 2).all()
    a, b, c = (mesh.points[mesh.faces[:, k]] for k in range(3))
    area = torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2
    # float32 areas of thousands of triangles
    assert float(area) == pytest.approx(2 * (0.5 + 0.4 + 0.2), rel=1e-5)
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert float(volume) == pytest.approx(0.2, rel=1e-5)  # positive: faces look outward
    torch.testing.assert_close(mesh.normals.norm(dim=1), torch.ones(len(mesh.points)))


def test_spacing_bounds_the_edges_and_sets_the_size():
    surface = build_home(1, "train").surface
    sizes = {}
    for spacing in (0.12, 0.06):
        mesh = scan_mesh(surface, spacing)
        a, b = mesh.points[mesh.faces[:, 0]], mesh.points[mesh.faces[:, 1]]
        assert float((a - b).norm(dim=1).quantile(0.99)) < 2 * spacing
        sizes[spacing] = len(mesh.points)
    assert 60_000 < sizes[0.06] < 135_000
    assert sizes[0.12] < 0.5 * sizes[0.06]
    with pytest.raises(ValueError, match=r"spacing must be > 0 metres, got 0"):
        scan_mesh(surface, 0)


def test_labels_of_seen_vertices_agree_with_the_class_map():
    home = build_home(2, "train")
    mesh, matrix = scan_mesh(home.surface, 0.08), intrinsics_from_fov((240, 320), 70.0)
    agree = total = 0
    for pose in plan_camera_path(home, 6, 0):
        view = render(home.surface, pose, matrix, (240, 320), shadows=False)
        seen = visible_vertices(mesh.points, pose, matrix, view)
        local = mesh.points[seen].double() - pose[:3, 3]
        local = local @ pose[:3, :3]
        pixel = (local @ matrix.T)[:, :2] / local[:, 2:]
        column, row = pixel.round().long().unbind(dim=1)
        agree += int((view.classes[row, column] == mesh.classes[seen]).sum())
        total += int(seen.sum())
    assert total > 5_000
    assert agree > 0.93 * total  # the rest lies on edges between two objects


def test_a_scene_is_complete_and_consistent(scene):
    assert scene.name == "validation_0005"
    assert load_label_set(scene.label_set).names == CLASSES[:20]
    labels = set(scene.labels.unique().tolist())
    assert labels <= {*range(20), IGNORE_LABEL}
    assert len(labels & set(range(20))) >= 17
    assert len(scene.frames) == 12
    assert scene.normals.norm(dim=1).sub(1).abs().max() < 1e-4
    assert scene.faces.max() < len(scene.points)
    assert scene.instances.min() >= -1
    for frame in scene.frames:
        assert frame.image_size == SMALL
        assert tuple(frame.image().shape) == (*SMALL, 3)
        assert frame.depth().dtype == torch.float32


def test_every_point_is_near_the_measured_depth_of_some_frame(scene):
    supported = torch.zeros(len(scene.points), dtype=torch.bool)
    for frame in scene.frames:
        pose, depth = frame.camera_to_world, frame.depth()
        local = (scene.points.double() - pose[:3, 3]) @ pose[:3, :3]
        z = local[:, 2].clamp(min=0.1)
        pixel = ((local @ frame.intrinsics.T)[:, :2] / z[:, None]).round().long()
        inside = (pixel >= 0).all(dim=1) & (pixel < torch.tensor([SMALL[1], SMALL[0]])).all(dim=1)
        inside &= local[:, 2] > 0.2
        column, row = pixel[inside].unbind(dim=1)
        near = (depth[row, column] - z[inside]).abs() < 0.1
        supported[inside.nonzero()[:, 0][near]] = True
    assert (
        supported.float().mean() > 0.7
    )  # the rest is glass, wide edges at this size, and what lies beyond 5 m


def test_a_scene_repeats_with_its_seed(scene):
    again = home_scene(5, "validation", frames=12, image_size=SMALL)
    assert torch.equal(scene.points, again.points)
    assert torch.equal(scene.labels, again.labels)
    assert torch.equal(scene.frames[3].image(), again.frames[3].image())
    assert torch.equal(scene.frames[3].depth(), again.frames[3].depth())


def test_an_unknown_split_is_refused():
    with pytest.raises(ConfigError, match=r"there is no split 'test'; did you mean .*test-train"):
        home_scene(0, "test")
