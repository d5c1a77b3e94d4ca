"""The box-shaped room in the layouts of Matterport3D and Replica, written by formula."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.scenes import rooms

HOUSE = "Ab3dEfGhIjK"
PANORAMAS = ("5e1f", "a07b")
FILE_SIZE = (60, 80)
"""(H, W) of the images as stored; small to be quick."""

CATEGORIES = ("wall", "door", "ceiling", "floor", "void", "armchair", "chair")
NYU40 = (1, 8, 22, 2, 0, 5, 5)
NYU_CLASS = ("wall", "door", "ceiling", "floor", "void", "chair", "chair")

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def box_quads(spacing: float = 0.25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3), quads (Q, 4) and side (Q,) of the room; side 2 axis + 1 is the upper end."""
    points: list[np.ndarray] = []
    quads, sides = [], []
    for axis in range(3):
        across = [i for i in range(3) if i != axis]
        counts = [round(rooms.SIZE[i] / spacing) + 1 for i in across]
        lines = [np.linspace(0, rooms.SIZE[i], n) for i, n in zip(across, counts, strict=True)]
        grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
        index = np.arange(len(grid)).reshape(counts)
        corners = (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
        squares = np.stack(corners, axis=-1).reshape(-1, 4)
        for end in range(2):
            side = np.empty((len(grid), 3))
            side[:, across] = grid
            side[:, axis] = end * rooms.SIZE[axis]
            quads.append(sum(map(len, points)) + squares)
            sides.append(np.full(len(squares), 2 * axis + end))
            points.append(side)
    return np.concatenate(points), np.concatenate(quads), np.concatenate(sides)


def write_region(path: Path, category_of_side: tuple[int, ...] = (1, 1, 1, 1, 4, 3)) -> None:
    """A region's mesh and JSON files; sides are left, right, front, back, floor, ceiling."""
    points, quads, sides = box_quads()
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    sides = np.concatenate([sides, sides])
    write_region_mesh(path, points, faces, np.array(category_of_side)[sides], sides)
    path.with_name(f"{path.stem}.fsegs.json").write_text(
        json.dumps({"segIndices": (100 + sides).tolist()})
    )
    groups = [
        {"id": 0, "objectId": 7, "segments": [100, 101, 102, 103], "label": "wall"},
        {"id": 1, "objectId": 8, "segments": [104], "label": "floor"},
    ]
    path.with_name(f"{path.stem}.semseg.json").write_text(json.dumps({"segGroups": groups}))


def write_region_mesh(path, points, faces, category, objects) -> None:
    """The mesh alone, binary; `faces` (F, 3)."""
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(points)}",
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz", "tx", "ty")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        *(f"property int {name}" for name in ("material_id", "segment_id", "category_id")),
        "end_header\n",
    ]
    vertex = np.zeros(len(points), dtype=[("f", "<f4", 8), ("color", "u1", 3)])
    vertex["f"][:, :3] = points
    vertex["f"][:, 5] = 2.0  # a normal that is not of unit length
    vertex["color"] = [10, 20, 30]
    face = np.zeros(len(faces), dtype=[("n", "u1"), ("corners", "<i4", 3), ("ids", "<i4", 3)])
    face["n"] = 3
    face["corners"] = faces
    face["ids"] = np.stack([objects + 100, objects, category], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(header).encode() + vertex.tobytes() + face.tobytes())


def write_table(path: Path) -> None:
    """A category table of seven categories."""
    lines = ["index\traw_category\tcategory\tcount\tnyu40id\tnyuClass"]
    lines += [
        f"{i}\t{name}\t{name}\t5\t{nyu40 or ''}\t{nyu}"
        for i, (name, nyu40, nyu) in enumerate(zip(CATEGORIES, NYU40, NYU_CLASS, strict=True), 1)
    ]
    path.write_text("\n".join(lines) + "\n")


def write_images(color: Path, depth: Path, pose: np.ndarray, depth_scale: float) -> None:
    """What a camera in the room sees."""
    metres = rooms.depth_of(pose)
    shade = np.clip(255 - 30 * metres, 0, 255).astype(np.uint8)
    Image.fromarray(np.stack([shade, shade, shade], axis=-1)).save(color)
    Image.fromarray(np.rint(metres * depth_scale).astype(np.uint16)).save(depth)


def conf_lines(poses: list[np.ndarray]) -> list[str]:
    """The camera file for `panorama_iC_Y` images, twelve poses for two cameras a panorama."""
    fx, cx, cy = rooms.INTRINSICS[0, 0], rooms.INTRINSICS[0, 2], rooms.INTRINSICS[1, 2]
    lines = ["dataset matterport", f"n_images {len(poses)}", ""]
    for i, pose in enumerate(poses):
        panorama, camera, yaw = PANORAMAS[i // 12 % 2], i // 6 % 2, i % 6
        if yaw == 0:
            lines.append(f"intrinsics_matrix {fx:g} 0 {cx:g}  0 {fx:g} {cy:g} 0 0 1 ")
        numbers = " ".join(f"{value:.9g}" for value in (pose @ _FLIP).reshape(-1))
        lines.append(
            f"scan {panorama}_d{camera}_{yaw}.png {panorama}_i{camera}_{yaw}.jpg {numbers}"
        )
    return lines


def write_house(root: Path, count: int = 12, regions: int = 1) -> Path:
    """A data set with one house; its folder."""
    house = root / "scans" / HOUSE
    for kind in ("color", "depth"):
        (house / f"undistorted_{kind}_images").mkdir(parents=True)
    (house / "undistorted_camera_parameters").mkdir()
    write_table(root / "category_mapping.tsv")
    for region in range(regions):
        write_region(house / "region_segmentations" / f"region{region}.ply")
    poses = rooms.poses(count)
    for line in (lines := conf_lines(poses)):
        if line.startswith("scan"):
            _, depth, color, *numbers = line.split()
            pose = np.array(numbers, dtype=float).reshape(4, 4) @ _FLIP
            write_images(
                house / "undistorted_color_images" / color,
                house / "undistorted_depth_images" / depth,
                pose,
                4000.0,
            )
    (house / "undistorted_camera_parameters" / f"{HOUSE}.conf").write_text("\n".join(lines) + "\n")
    return house


def write_replica(root: Path, name: str = "attic3", count: int = 6) -> Path:
    """A data set with one scene whose mesh has quads; the scene's folder."""
    scene = root / name
    (scene / "results").mkdir(parents=True)
    poses = rooms.poses(count)
    for i, pose in enumerate(poses):
        images = scene / "results"
        write_images(images / f"frame{i:06d}.jpg", images / f"depth{i:06d}.png", pose, 6553.5)
    rows = [" ".join(f"{value:.10f}" for value in pose.reshape(-1)) for pose in poses]
    (scene / "traj.txt").write_text("\n".join(rows) + "\n")
    camera = {"w": 80, "h": 60, "fx": 60.0, "fy": 60.0, "cx": 39.5, "cy": 29.5, "scale": 6553.5}
    (root / "cam_params.json").write_text(json.dumps({"camera": camera}))
    points, quads, _ = box_quads()
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(points)}",
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        f"element face {len(quads)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    vertex = np.zeros(len(points), dtype=[("f", "<f4", 6), ("color", "u1", 3)])
    vertex["f"][:, :3] = points
    vertex["color"] = [200, 100, 50]
    face = np.zeros(len(quads), dtype=[("n", "u1"), ("corners", "<i4", 4)])
    face["n"] = 4
    face["corners"] = quads
    content = "\n".join(header).encode() + vertex.tobytes() + face.tobytes()
    (root / f"{name}_mesh.ply").write_bytes(content)
    return scene
