"""The box room of `rooms` in the layouts of ScanNet++ and ARKitScenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from pcdistill.scenes import write_ply
from tests.scenes import captures, rooms

HEIGHT, WIDTH = rooms.IMAGE_SIZE
SMALL = (HEIGHT // 2, WIDTH // 2)
HALF = rooms.INTRINSICS * [[0.5], [0.5], [1]] - np.array([[0, 0, 0.25], [0, 0, 0.25], [0, 0, 0]])
TURNED = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
"""From the mesh's world to that of ScanNet++'s transforms.json."""
VIDEO = "41069021"


def write_mesh(path: Path) -> int:
    """The room's six sides; how many points it has."""
    points = rooms.wall_points()
    write_ply(path, torch.from_numpy(points), faces=torch.tensor([[0, 1, 2]]))
    return len(points)


def write_scannetpp(
    folder: Path, count: int = 6, *, dslr: bool = True, iphone: bool = True, depth: bool = True
) -> Path:
    """One scan; every third vertex belongs to object 1, the next one to object 2."""
    (folder / "scans").mkdir(parents=True)
    vertices = write_mesh(folder / "scans/mesh_aligned_0.05.ply")
    segments = {"segIndices": (np.arange(vertices) % 3).tolist()}
    (folder / "scans/segments.json").write_text(json.dumps(segments))
    objects = [
        {"id": number, "objectId": number, "label": label, "segments": [number - 1]}
        for number, label in ((1, "office chair"), (2, "whiteboard"))
    ]
    (folder / "scans/segments_anno.json").write_text(json.dumps({"segGroups": objects}))
    if dslr:
        write_dslr(folder / "dslr", count)
    if iphone:
        write_iphone(folder / "iphone", count, depth)
    return folder


def write_dslr(folder: Path, count: int) -> None:
    captures.write_colmap(folder / "made", count, binary=False, sparse="colmap")
    (folder / "made/colmap").rename(folder / "colmap")
    images = folder / "resized_undistorted_images"
    (folder / "made/images/left").rename(images)
    text = (folder / "colmap/images.txt").read_text()
    (folder / "colmap/images.txt").write_text(text.replace("left/", ""))
    camera = "1 OPENCV_FISHEYE 1752 1168 700 700 876 584 0.1 0.01 0 0\n"
    (folder / "colmap/cameras.txt").write_text(camera)  # of the images before
    poses = [TURNED @ pose @ captures.OPENGL for pose in rooms.poses(count)]
    frames = [
        {"file_path": f"{i:03d}.jpg", "transform_matrix": pose.tolist(), "is_bad": i == 1}
        for i, pose in enumerate(poses)
    ]
    content = {
        "fl_x": rooms.INTRINSICS[0, 0],
        "fl_y": rooms.INTRINSICS[1, 1],
        "cx": rooms.INTRINSICS[0, 2] + 0.5,
        "cy": rooms.INTRINSICS[1, 2] + 0.5,
        "w": WIDTH,
        "h": HEIGHT,
        "k1": 0.0,
        "camera_model": "PINHOLE",
        "frames": frames[:-1],
        "test_frames": frames[-1:],
    }
    (folder / "nerfstudio").mkdir()
    (folder / "nerfstudio/transforms_undistorted.json").write_text(json.dumps(content))


def write_iphone(folder: Path, count: int, depth: bool) -> None:
    for kind in ("rgb", *(("depth",) if depth else ())):
        (folder / kind).mkdir(parents=True)
    content = {}
    for i, pose in enumerate(rooms.poses(count)):
        name = f"frame_{10 * i:06d}"
        captures.picture(pose).save(folder / f"rgb/{name}.jpg")
        if depth:
            counts = captures.counts(pose, intrinsics=HALF, image_size=SMALL)
            counts.save(folder / f"depth/{name}.png")
        content[name] = {
            "timestamp": i / 6,
            "pose": np.eye(4).tolist(),  # ARKit's own world
            "intrinsic": rooms.INTRINSICS.tolist(),
            "aligned_pose": pose.tolist(),
        }
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps(content))


def write_arkitscenes(
    folder: Path, count: int = 6, *, colors: str = "lowres_wide", mesh: bool = True
) -> Path:
    """One scan named `folder`, images 1/60 s after the poses' times."""
    video = folder.name
    small = colors == "lowres_wide"
    size, camera = (SMALL, HALF) if small else (rooms.IMAGE_SIZE, rooms.INTRINSICS)
    for kind in (colors, f"{colors}_intrinsics", "lowres_depth"):
        (folder / kind).mkdir(parents=True)
    lines = []
    numbers = [size[1], size[0], camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2]]
    for i, pose in enumerate(rooms.poses(count)):
        time = 305.377 + i
        world_to_camera = np.linalg.inv(pose)
        turn = Rotation.from_matrix(world_to_camera[:3, :3]).as_rotvec()
        motion = " ".join(f"{n:.12g}" for n in [*turn, *world_to_camera[:3, 3]])
        lines += [f"{time - 0.1:.9f} {motion}", f"{time + 0.1:.9f} {motion}"]
        image = captures.picture(pose).resize((size[1], size[0]))
        image.save(folder / f"{colors}/{video}_{time:.3f}.png")
        text = " ".join(f"{n:g}" for n in numbers)
        (folder / f"{colors}_intrinsics/{video}_{time + 0.001:.3f}.pincam").write_text(text)
        counts = captures.counts(pose, intrinsics=HALF, image_size=SMALL)
        counts.save(folder / f"lowres_depth/{video}_{time + 0.016:.3f}.png")
    (folder / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
    if mesh:
        write_mesh(folder / f"{video}_3dod_mesh.ply")
    return folder
