"""Rendered images of an object in its room, as for "a good photo of a chair in a room"."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pcdistill.homes.camera_path import intrinsics_from_fov, look_at
from pcdistill.homes.classes import CLASS_INDEX
from pcdistill.homes.home import Home, build_home
from pcdistill.homes.object_images import (
    ObjectImage,
    render_object_image,
    require_picture,
    shown_instance,
)
from pcdistill.homes.portable_math import snap
from pcdistill.homes.render import cast_rays, render

Array = npt.NDArray[Any]

_STREAM = 11  # the first number of the seeds of views; homes have streams of their own
_VIEWS = 30  # tried in a home
_HOMES = 4  # tried, if an object is missing or hidden
_ANOTHER = 100_000  # added to the seed of a home that is tried next
_MARGIN = 0.38  # metres between the camera and walls or tall furniture
_GLANCE = (36, 48)  # (H, W) of the look that says how much of a picture shows the category
_OBJECT = (0.03, 0.5)  # share of the picture
_SHELL = (0.3, 0.95)
_SHELLS = ("wall", "floor", "ceiling")
_LEAST = 0.01  # share below which another home is tried


def object_in_room(
    category: str, seed: int, *, image_size: tuple[int, int] = (240, 320)
) -> ObjectImage:
    """Render a view of a furnished room that shows a category, smaller or larger, partly hidden.

    The homes are of the split `pictures`: nothing is scanned in them and no teacher learned there.

    Args:
        category: one of `CLASSES`.
        seed: 0 or more.
        image_size: (H, W) pixels.

    Returns:
        The view without depth noise, the exact mask of the category (all that is in view), and its
        largest object in words. Where no home of a few shows the category, as
        `render_object_image`.

    Raises:
        ConfigError: there is no such category, or the seed is negative.
    """
    require_picture(category, seed)
    for attempt in range(_HOMES):
        number = seed + _ANOTHER * attempt
        rng = np.random.default_rng([_STREAM, CLASS_INDEX[category], number])
        home = _home(number)
        pose = _pose(home, category, rng)
        if pose is None:
            continue
        intrinsics = intrinsics_from_fov(image_size, float(rng.uniform(55, 70)))
        view = render(
            home.surface,
            torch.from_numpy(pose),
            intrinsics,
            image_size,
            seed=int(rng.integers(2**31)),
        )
        mask = view.classes == CLASS_INDEX[category]
        if bool(mask.any()):
            return ObjectImage(view, mask, shown_instance(category, list(home.instances), view))
    return render_object_image(category, seed, image_size=image_size)


@lru_cache(maxsize=32)
def _home(seed: int) -> Home:
    return build_home(seed, "pictures")


def _pose(home: Home, category: str, rng: np.random.Generator) -> Array | None:
    """A pose (4, 4) in free space from where enough of the category is in view, if there is one."""
    surface, index = home.surface, CLASS_INDEX[category]
    objects = np.unique(surface.instances[surface.classes == index])
    if len(objects) == 0:
        return None
    least, limit = _SHELL if category in _SHELLS else _OBJECT
    intrinsics = intrinsics_from_fov(_GLANCE, 62.0).numpy()
    best: tuple[float, Array] | None = None
    for _ in range(_VIEWS):
        patches = np.flatnonzero(surface.instances == int(objects[rng.integers(len(objects))]))
        cells = home.spaces[int(surface.rooms[patches[0]])].free_cells(_MARGIN)
        corners = surface.corners[patches].reshape(-1, 3).astype(np.float64)
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
        target = snap(middle + rng.normal(0, 0.15, 3))
        if len(cells) == 0:
            continue
        place = snap(np.array([*cells[int(rng.integers(len(cells)))], rng.uniform(1.25, 1.65)]))
        if not (np.abs(target - place)[:2] > 0.05).any():
            continue  # straight up or down
        pose = look_at(place, target)
        hits = cast_rays(surface, pose, intrinsics, _GLANCE)
        shows = (hits.quads >= 0) & (surface.classes[hits.quads] == index)
        fraction = float(np.count_nonzero(shows)) / shows.size
        if least <= fraction <= limit:
            return pose
        if best is None or fraction > best[0]:
            best = (fraction, pose)
    return best[1] if best is not None and best[0] >= _LEAST else None
