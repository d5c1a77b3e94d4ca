"""What a scanner makes of a home: drift, one surface, labels from what is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pcdistill.geometry import mesh_superpoints
from pcdistill.homes import (
    CLASS_INDEX,
    ScannerSettings,
    build_home,
    home_scene,
    intrinsics_from_fov,
    scan_mesh,
)
from pcdistill.homes.camera_path import plan_camera_path
from pcdistill.homes.scanner import _seen_on as seen_on
from pcdistill.homes.scanner import drifted, film, scan_surface

STEADY = ScannerSettings(drift=0.0, turn=0.0)


@pytest.fixture(scope="module")
def scene():
    return home_scene(5, "validation", frames=14)


@pytest.fixture(scope="module")
def exact():
    """The true surface of the same home, as a fine mesh."""
    return scan_mesh(build_home(5, "validation").surface, 0.03)


def test_the_surface_stands_where_the_home_is(scene, exact):
    away, nearest = cKDTree(exact.points.numpy()).query(scene.points.numpy())
    offset = ((scene.points - exact.points[nearest]) * exact.normals[nearest]).sum(dim=1).abs()
    # a few millimetres of depth noise and some of drift; edges are rounded by the volume
    assert 0.002 < float(offset.median()) < 0.012
    assert float(offset.quantile(0.9)) < 0.04
    assert (away > 0.1).mean() < 0.02


def test_labels_are_those_of_the_nearest_true_surface(scene, exact):
    away, nearest = cKDTree(exact.points.numpy()).query(scene.points.numpy())
    truth = exact.classes[nearest]
    scored = (scene.labels >= 0) & torch.from_numpy(away < 0.03)
    assert float((scene.labels[scored] == truth[scored]).float().mean()) > 0.95
    ceiling = (truth == CLASS_INDEX["ceiling"]) & (scene.instances >= 0)
    assert float((scene.labels[ceiling] == -1).float().mean()) > 0.95


def test_one_surface_runs_across_objects(scene):
    edges = scene.faces[:, [[0, 1], [1, 2]]].reshape(-1, 2).numpy()
    graph = coo_matrix((np.ones(len(edges)), edges.T), (len(scene.points), len(scene.points)))
    _, piece = connected_components(graph, directed=False)
    largest = piece == np.bincount(piece).argmax()
    assert largest.mean() > 0.3
    assert len(scene.instances[torch.from_numpy(largest)].unique()) > 15


def test_superpoints_cross_borders_as_they_do_in_real_scans(scene):
    ids = mesh_superpoints(scene.points, scene.faces, min_size=20)
    scored = scene.labels >= 0
    table = torch.zeros(int(ids.max()) + 1, 20)
    table.index_put_((ids[scored], scene.labels[scored]), torch.ones(1), accumulate=True)
    purity = float(table.amax(dim=1).sum() / scored.sum())
    assert 0.85 < purity < 0.99


def test_nothing_behind_furniture_or_inside_walls_is_scanned(scene, exact):
    away, _ = cKDTree(scene.points.numpy()).query(exact.points.numpy())
    missing = float((away > 0.08).mean())  # beneath, behind and inside furniture
    assert 0.1 < missing < 0.6


def test_normals_are_noisy_like_those_of_a_fused_mesh(scene, exact):
    away, nearest = cKDTree(exact.points.numpy()).query(scene.points.numpy())
    cosine = (scene.normals * exact.normals[nearest]).sum(dim=1)[torch.from_numpy(away < 0.02)]
    angle = torch.rad2deg(cosine.clamp(-1, 1).acos())
    assert 1.0 < float(angle.median()) < 12.0


def test_drift_is_slow_and_of_the_given_size():
    settings = ScannerSettings()
    walk = [torch.eye(4, dtype=torch.float64)] * 4000
    poses = torch.stack(drifted(walk, 3, settings))
    shift = poses[:, :3, 3].numpy()
    assert shift.std(axis=0) == pytest.approx([settings.drift] * 3, rel=0.2)
    later = (shift[1:] * shift[:-1]).mean() / (shift**2).mean()
    assert later == pytest.approx(settings.smoothness, abs=0.05)
    rotation = poses[:, :3, :3]
    turns = torch.stack([rotation[:, 2, 1], rotation[:, 0, 2], rotation[:, 1, 0]], dim=1)
    assert turns.std(dim=0).tolist() == pytest.approx([settings.turn] * 3, rel=0.2)
    eye = torch.eye(3, dtype=torch.float64).expand(4000, 3, 3)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), eye)
    again = torch.stack(drifted(walk, 4, settings))
    assert not torch.equal(poses, again)


def test_without_drift_poses_are_the_true_ones():
    walk = plan_camera_path(build_home(0, "train"), 2, 0)
    for true, found in zip(walk, drifted(walk, 0, STEADY), strict=True):
        torch.testing.assert_close(found, true, rtol=0, atol=1e-12)


def test_colors_are_those_of_the_pictures():
    home, size = build_home(0, "train"), (120, 160)
    matrix = intrinsics_from_fov(size, 70.0)
    views = film(home, plan_camera_path(home, 1, 0), matrix, size, 0, STEADY)
    corners = torch.from_numpy(home.surface.corners.reshape(-1, 3)).double()
    scan = scan_surface(views, matrix, corners.amin(dim=0), corners.amax(dim=0), STEADY)
    pose, shown = views[0].camera_to_world, views[0].rendering
    local = (scan.points.double() - pose[:3, 3]) @ pose[:3, :3]
    pixel = ((local @ matrix.T)[:, :2] / local[:, 2:]).round().long()
    seen = scan.instances >= 0
    column, row = pixel[seen].unbind(dim=1)
    same = (scan.colors[seen] == shown.image[row, column]).all(dim=1)
    assert float(same.float().mean()) > 0.99  # but where float32 rounds to the next pixel
    assert (scan.instances[seen] == shown.instances[row, column]).float().mean() > 0.99
    assert len(scan.points) > 500


def test_vertices_that_no_view_sees_have_the_color_of_their_nearest_that_one_does(scene):
    unseen = scene.instances < 0
    assert 0.001 < float(unseen.float().mean()) < 0.1
    points, seen = scene.points.double(), ~unseen
    nearest = torch.cdist(points[unseen], points[seen]).argmin(dim=1)
    same = (scene.colors[unseen] == scene.colors[seen][nearest]).all(dim=1)
    assert float(same.float().mean()) > 0.99  # but where two are as near
    assert not (scene.colors == 0).all(dim=1).any()


def test_a_scan_that_no_view_agrees_with_is_black_and_unknown():
    points = np.array([[0.0, 0.0, -1.0], [0.5, 0.0, -1.0]])  # behind the camera
    home, size = build_home(0, "train"), (12, 16)
    matrix = intrinsics_from_fov(size, 70.0)
    views = film(home, plan_camera_path(home, 1, 0), matrix, size, 0, STEADY)
    behind = [view._replace(camera_to_world=torch.eye(4, dtype=torch.float64)) for view in views]
    colors, instances = seen_on(points, behind, matrix.numpy())
    assert not colors.any()
    assert (instances == -1).all()


def test_a_scan_says_how_it_was_made(scene):
    assert scene.provenance["views_fused"] == 28
    assert scene.provenance["scanner"]["drift"] == ScannerSettings().drift
    assert scene.provenance["split"] == "validation"
