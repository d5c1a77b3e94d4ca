"""Prints digests of homes: what a seed must give on every processor."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

from pcdistill.homes import build_home, home_scene, object_in_room, render_object_image

HOMES = (("train", 0), ("validation", 1))
PICTURES = (("chair", 0), ("refrigerator", 3), ("curtain", 1))


def digest(*arrays: object) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over dtypes, shapes and bytes."""
    hashed = hashlib.sha256()
    for array in map(np.asarray, arrays):
        hashed.update(f"{array.dtype.str}{array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()[:16]


def digests() -> dict[str, str]:
    """Digests of layout, walk, scan points with their colours, and first images, by what they are.

    The whole surface of a home is its layout; of its walk and its images there are the poses and
    pictures of all views of a short scan.
    """
    found = {}
    for split, seed in HOMES:
        home = build_home(seed, split)
        surface, name = home.surface, f"{split}/{seed}"
        found[f"{name} layout"] = digest(
            surface.corners, surface.normals, surface.uvs, surface.colors, surface.lights
        )
        scene = home_scene(seed, split, frames=6)
        found[f"{name} walk"] = digest(*(frame.camera_to_world for frame in scene.frames))
        found[f"{name} points"] = digest(scene.points, scene.colors, scene.normals, scene.labels)
        frames = scene.frames
        found[f"{name} images"] = digest(*(frame.image() for frame in frames))
        found[f"{name} depth"] = digest(*(frame.depth() for frame in frames))
    # embree picks its kernels by the processor and cannot be told otherwise: it decides nothing
    found["ray casters"] = ",".join(sorted({n for n in sys.modules if n.startswith("embree")}))
    for category, seed in PICTURES:
        shot = render_object_image(category, seed)
        found[f"{category} picture"] = digest(shot.rendering.image, shot.mask)
        stands = object_in_room(category, seed)
        found[f"{category} in a room"] = digest(stands.rendering.image, stands.mask)
    return found


if __name__ == "__main__":
    json.dump(digests(), sys.stdout, indent=4)
