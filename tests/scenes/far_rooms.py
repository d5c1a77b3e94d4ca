"""The box room of `rooms` in every layout of a capture, near the origin or far out."""

from __future__ import annotations

from functools import partial

import torch

from pcdistill.scenes import open_scene, write_ply
from tests.scenes import captures, published, rooms


def rgbd(folder):
    return rooms.write_scan(folder)


def rgbd_fused(folder):
    return rooms.write_scan(folder, surface=False)


def record3d_with_mesh(folder):
    captures.write_record3d(folder)
    turned = torch.from_numpy(rooms.wall_points() @ captures.Y_UP[:3, :3].T)
    write_ply(folder / "cloud.ply", turned, doubles=True)
    return folder


def nerfstudio_fused(folder):
    return captures.write_nerfstudio(folder, cloud=False)


def colmap_with_depth(folder):
    return captures.write_colmap(folder, depth=True)


def arkitscenes(folder):
    return published.write_arkitscenes(folder / published.VIDEO)


def scannetpp(folder):
    return published.write_scannetpp(folder, iphone=False)


def scannetpp_iphone(folder):
    return published.write_scannetpp(folder, dslr=False)


SURFACES = [
    rgbd,
    record3d_with_mesh,
    captures.write_nerfstudio,
    captures.write_colmap,
    arkitscenes,
    scannetpp,
    scannetpp_iphone,
]
FUSED = [rgbd_fused, captures.write_tum, nerfstudio_fused, colmap_with_depth]


def move_rooms(monkeypatch, far):
    """What the writers of the tests write from now on lies `far` away, in doubles."""
    poses, depth_of, walls = rooms.poses, rooms.depth_of, rooms.wall_points

    def moved(pose, by):
        pose = pose.copy()
        pose[:3, 3] += by
        return pose

    monkeypatch.setattr(rooms, "poses", lambda count: [moved(p, far) for p in poses(count)])
    monkeypatch.setattr(rooms, "wall_points", lambda spacing=0.1: walls(spacing) + far)
    monkeypatch.setattr(
        rooms, "depth_of", lambda pose, *args, **rest: depth_of(moved(pose, -far), *args, **rest)
    )
    for module in (rooms, captures, published):
        monkeypatch.setattr(module, "write_ply", partial(write_ply, doubles=True))


def opened(folder):
    settings = {} if "scannetpp" in folder.parts[-2] else {"fuse_voxel_size": 0.1}
    if (folder / "cloud.ply").exists():
        settings["geometry"] = "cloud.ply"
    return open_scene(folder, **settings)
