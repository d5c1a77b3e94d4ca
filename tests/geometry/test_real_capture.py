"""A real hand-held capture: mesh, depth, poses and fused cloud must agree with each other."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

trimesh = pytest.importorskip("trimesh")

from pcdistill.geometry import (  # noqa: E402
    fuse_depth,
    mesh_superpoints,
    point_superpoints,
    project_points,
)


@pytest.fixture(scope="module")
def capture(data_root):
    """(mesh, every fourth frame as (depth, image, intrinsics, camera_to_world))."""
    root = data_root / "rgbd_frames"
    if not (root / "mesh.ply").is_file():
        pytest.skip(f"no capture with a mesh at {root}")
    intrinsics = torch.from_numpy(np.loadtxt(root / "intrinsics.txt")[:3, :3])
    frames = []
    for file in sorted(root.glob("depth/*.png"), key=lambda file: int(file.stem))[::4]:
        depth = np.asarray(Image.open(file)).astype(np.float32) / 1000
        image = np.asarray(Image.open(root / "color" / f"{file.stem}.jpg"))
        pose = np.loadtxt(root / "pose" / f"{file.stem}.txt")
        tensors = (torch.from_numpy(depth), torch.tensor(image), intrinsics, torch.from_numpy(pose))
        frames.append(tensors)
    return trimesh.load(root / "mesh.ply", process=False), frames


@pytest.fixture(scope="module")
def cloud(capture):
    return fuse_depth(capture[1])


def test_mesh_vertices_land_on_their_own_depth(capture):
    mesh, frames = capture
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32)
    all_errors, seen_errors, inside_count = [], [], 0
    for depth, _, intrinsics, pose in frames:
        size = tuple(depth.shape)
        for errors, occlusion in ((all_errors, None), (seen_errors, depth)):
            result = project_points(vertices, pose, intrinsics, size, occlusion, border=1)
            pixels = result.pixels[result.visible]
            measured = depth[pixels[:, 1], pixels[:, 0]]
            error = (measured - result.depth[result.visible]).abs()
            errors.append(error[measured > 0])
        inside_count += len(all_errors[-1])
    assert torch.cat(all_errors).median() < 0.03  # metres, vertices hidden by others included
    assert torch.cat(seen_errors).median() < 0.02
    assert len(torch.cat(seen_errors)) > 0.7 * inside_count


def test_the_fused_cloud_lies_on_the_mesh(capture, cloud):
    mesh = capture[0]
    surface = trimesh.sample.sample_surface(mesh, 200_000, seed=0)[0]
    off_the_mesh = cKDTree(surface).query(cloud.points.numpy())[0]
    assert np.median(off_the_mesh) < 0.015  # metres
    assert np.quantile(off_the_mesh, 0.9) < 0.05
    missing = cKDTree(cloud.points.numpy()).query(mesh.vertices)[0]
    assert np.median(missing) < 0.02


def test_the_fused_normals_are_those_of_the_mesh(capture, cloud):
    mesh = capture[0]
    distance, nearest = cKDTree(mesh.vertices).query(cloud.points.numpy())
    agreement = (mesh.vertex_normals[nearest] * cloud.normals.numpy()).sum(axis=1)[distance < 0.03]
    assert np.median(agreement) > np.cos(np.radians(15))
    assert (agreement > 0).mean() > 0.97  # towards the cameras


def test_superpoints_of_mesh_and_cloud_are_pieces_of_surface(capture, cloud):
    mesh = capture[0]
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32)
    from_mesh = mesh_superpoints(vertices, torch.tensor(mesh.faces)).numpy()
    from_cloud = point_superpoints(cloud.points, cloud.normals).numpy()
    distance, nearest = cKDTree(vertices.numpy()).query(cloud.points.numpy())
    near = distance < 0.03
    for ids, normals in ((from_mesh, mesh.vertex_normals), (from_cloud, cloud.normals.numpy())):
        assert 50 < ids.max() < len(ids) / 100
        spread = np.zeros((ids.max() + 1, 3))
        np.add.at(spread, ids, normals)
        flatness = np.linalg.norm(spread, axis=1) / np.bincount(
            ids
        )  # normals alike: 1; random pieces: 0.5
        assert np.average(flatness, weights=np.bincount(ids)) > 0.75
    purity = majority_share(from_cloud[near], from_mesh[nearest[near]])
    assert purity > 0.7  # pieces of one are mostly within pieces of the other


def majority_share(parts, wholes):
    """Share of the points whose part lies, by majority, in the whole they are in."""
    counts = np.zeros((parts.max() + 1, wholes.max() + 1))
    np.add.at(counts, (parts, wholes), 1)
    return counts.max(axis=1).sum() / len(parts)
