"""Rendered images of one object, as for "a good photo of a chair"."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import ConfigError
from pcdistill.homes.camera_path import intrinsics_from_fov, look_at
from pcdistill.homes.classes import CLASS_INDEX, CLASSES
from pcdistill.homes.collection import Collection, Draws
from pcdistill.homes.floorplan import Opening, Rect, Room
from pcdistill.homes.furniture import bath, kitchen, storage, tables
from pcdistill.homes.furniture import beds_and_seats as rest
from pcdistill.homes.furniture import lamps_plants_and_bins as small
from pcdistill.homes.furniture.doors_and_windows import curtain, picture
from pcdistill.homes.home import Instance, InstanceAssembler
from pcdistill.homes.materials import bernoulli
from pcdistill.homes.mesh import build_surface
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.portable_math import cosine, sine
from pcdistill.homes.render import Rendering, render
from pcdistill.homes.room_shell import (
    opening_models,
    room_lights,
    room_surfaces,
    sample_room_finishes,
)
from pcdistill.suggest import suggest

_STREAMS: dict[Collection, int] = {"homes": 9, "teacher": 10}  # splits of homes use others
_MakeModel = Callable[[np.random.Generator], FurnitureModel]


class ObjectImage(NamedTuple):
    """A picture of one object of a category."""

    rendering: Rendering
    mask: Tensor
    """(H, W) bool: exactly the pixels that show the category; nearly always one object."""
    instance: Instance
    """The object in words."""


class _Stage(NamedTuple):
    """What a picture is taken of: a room, the models in it, the point to look at and from where."""

    room: Room
    models: list[FurnitureModel]
    target: np.ndarray
    distance: float
    height: float


def render_object_image(
    category: str,
    seed: int,
    *,
    image_size: tuple[int, int] = (240, 320),
    collection: Collection = "homes",
) -> ObjectImage:
    """Render an object of a category in a corner of a room, as a photo of it would show it.

    Args:
        category: one of `CLASSES`.
        seed: 0 or more; no picture shares its random numbers with a home.
        image_size: (H, W) pixels.
        collection: whose furniture, finishes and lights; pictures of two share none.

    Returns:
        The view without depth noise, the exact mask of the category, and its largest object in
        words.

    Raises:
        ConfigError: there is no such category, or the seed is negative.
    """
    require_picture(category, seed)
    key = (_STREAMS[collection], CLASS_INDEX[category])
    for stream in np.random.SeedSequence(seed, spawn_key=key).spawn(8):
        shot = _shoot(category, Draws(stream, collection), image_size)
        if shot.mask.float().mean() > 0.055 and _dominates(category, shot.rendering.classes):
            break
    return shot


def require_picture(category: str, seed: int) -> None:
    """Check that there can be a picture of a category with a seed.

    Raises:
        ConfigError: there is no such category, or the seed is negative.
    """
    if category not in CLASSES:
        raise ConfigError(f"homes: there is no category '{category}'; {suggest(category, CLASSES)}")
    if seed < 0:
        raise ConfigError(f"homes: seed is {seed}, expected 0 or more; choose another seed")


def _dominates(category: str, classes: Tensor) -> bool:
    """Whether the category fills more than any other besides the room and what holds it."""
    aside = {"wall", "floor", "ceiling", *_HOLDERS.get(category, ())} - {category}
    counts = torch.bincount(classes[classes < len(CLASSES)], minlength=len(CLASSES))
    counts[[CLASS_INDEX[name] for name in aside]] = 0
    return int(counts.argmax()) == CLASS_INDEX[category]


def _shoot(category: str, rng: np.random.Generator, image_size: tuple[int, int]) -> ObjectImage:
    stage = _SHELLS[category](rng) if category in _SHELLS else _furniture_stage(category, rng)
    assembly = InstanceAssembler()
    finishes = sample_room_finishes(rng, stage.room.name)
    assembly.add(room_surfaces(stage.room, finishes, int(rng.integers(4))), 0, stage.room.name)
    for model in stage.models:
        assembly.add(model, 0, stage.room.name)
    r = stage.room.rect
    box = np.array([[r.x0, r.y0, 0, r.x1, r.y1, stage.room.height]])
    surface = build_surface(assembly.parts, box, room_lights(stage.room, rng)[None])
    pose = _camera(rng, stage)
    intrinsics = intrinsics_from_fov(image_size, float(rng.uniform(55, 66)))
    view = render(
        surface, torch.from_numpy(pose), intrinsics, image_size, seed=int(rng.integers(2**31))
    )
    mask = view.classes == CLASS_INDEX[category]
    return ObjectImage(view, mask, shown_instance(category, assembly.instances, view))


def shown_instance(category: str, instances: list[Instance], view: Rendering) -> Instance:
    """The instance of the category that fills most of the picture.

    Args:
        category: one that some instance has.
        instances: of the home, in the order of their numbers.
        view: the rendered picture.
    """
    sizes = torch.bincount(view.instances[view.instances >= 0].long(), minlength=len(instances))
    fitting = [number for number, one in enumerate(instances) if one.category == category]
    return instances[max(fitting, key=lambda number: int(sizes[number]))]


def _camera(rng: np.random.Generator, stage: _Stage) -> np.ndarray:
    """A pose before the target, a little to one side, inside the room."""
    turn = rng.uniform(-0.65, 0.65)
    r = stage.room.rect
    away = np.array([sine(turn), cosine(turn)]) * stage.distance
    place = np.array([*(stage.target[:2] + away), stage.height])
    place[:2] = np.clip(place[:2], [r.x0 + 0.25, r.y0 + 0.25], [r.x1 - 0.25, r.y1 - 0.25])
    aim = stage.target + rng.normal(0, 0.06, 3)
    return look_at(place, aim)


_ROOM_OF: dict[str, str] = {
    "toilet": "bathroom",
    "bathtub": "bathroom",
    "shower curtain": "bathroom",
    "counter": "kitchen",
    "refrigerator": "kitchen",
    "bed": "bedroom",
    "desk": "study",
}

_HOLDERS: dict[str, tuple[str, ...]] = {
    "sink": ("counter", "cabinet"),
    "shower curtain": ("bathtub",),
    "curtain": ("window",),
}
"""Categories that may fill more of a picture than the one it is about."""

_OTHERS: tuple[_MakeModel, ...] = (
    small.floor_lamp,
    small.nightstand,
    small.plant,
    small.tv_stand,
    small.clothes_rack,
    small.waste_bin,
    rest.ottoman,
    tables.crate,
)


def _tub(rng: np.random.Generator) -> FurnitureModel:
    return bath.bathtub(rng, float(rng.uniform(1.5, 1.7)), built_in=bernoulli(rng, 0.6))


def _tub_with_curtain(rng: np.random.Generator) -> FurnitureModel:
    length = float(rng.uniform(1.5, 1.7))
    tub = bath.bathtub(rng, length, built_in=bernoulli(rng, 0.7))
    return tub.extend(bath.shower_curtain(rng, length, float(tub.bounds()[1][1])))


def _sink(rng: np.random.Generator) -> FurnitureModel:
    if bernoulli(rng, 0.35):
        return kitchen.counter(rng, float(rng.uniform(1.0, 1.4)))
    return bath.bathroom_sink(rng)


_MAKERS: dict[str, _MakeModel] = {
    "cabinet": storage.cabinet,
    "bed": rest.bed,
    "chair": rest.chair,
    "sofa": rest.sofa,
    "table": lambda rng: tables.table(rng) if bernoulli(rng, 0.7) else tables.coffee_table(rng),
    "bookshelf": storage.bookshelf,
    "counter": lambda rng: kitchen.counter(rng, float(rng.uniform(1.4, 2.2))),
    "desk": tables.desk,
    "refrigerator": kitchen.refrigerator,
    "shower curtain": _tub_with_curtain,
    "toilet": bath.toilet,
    "sink": _sink,
    "bathtub": _tub,
    "other furniture": lambda rng: _OTHERS[int(rng.integers(len(_OTHERS)))](rng),
}

_NEIGHBORS: dict[str, tuple[_MakeModel, ...]] = {
    "bed": (small.nightstand, small.floor_lamp, storage.cabinet),
    "sofa": (small.floor_lamp, small.plant, storage.bookshelf),
    "toilet": (small.waste_bin, bath.bathroom_sink),
    "bathtub": (small.waste_bin, bath.toilet),
    "shower curtain": (small.waste_bin, bath.toilet),
    "counter": (kitchen.refrigerator, small.waste_bin),
    "sink": (small.waste_bin,),
    "other furniture": (rest.dining_chair,),
    "refrigerator": (lambda rng: kitchen.counter(rng, 1.1), small.waste_bin),
}


def _box_room(rng: np.random.Generator, name: str, openings: list[Opening]) -> Room:
    half, depth = float(rng.uniform(1.5, 2.4)), float(rng.uniform(3.2, 4.4))
    return Room(name, Rect(-half, 0.0, half, depth), float(rng.uniform(2.4, 2.6)), openings)


def _furniture_stage(category: str, rng: np.random.Generator) -> _Stage:
    """The object at a wall or, for tables and chairs, free on the floor; perhaps a neighbour."""
    room = _box_room(rng, _ROOM_OF.get(category, "living room"), [])
    if category == "sink":
        room = _box_room(rng, "bathroom" if bernoulli(rng, 0.65) else "kitchen", [])
    model = _MAKERS[category](rng)
    low, high = model.bounds()
    x = float(rng.uniform(-0.4, 0.4))
    placed = model.transformed(x, 0.01)
    if category in ("chair", "table"):
        angle = float(rng.uniform(-1.2, 1.2)) if category == "chair" else float(rng.normal(0, 0.3))
        placed = model.transformed(x, float(rng.uniform(0.5, 0.9)), 0.0, angle)
    models = [placed]
    others = _NEIGHBORS.get(category, (small.plant, small.floor_lamp, tables.crate))
    if bernoulli(rng, 0.55):
        other = others[int(rng.integers(len(others)))](rng)
        near, far = other.bounds()
        side = 1 if bernoulli(rng, 0.5) else -1
        edge = x + (high[0] - near[0] if side > 0 else low[0] - far[0]) + side * 0.08
        if -room.rect.x1 < edge + near[0] and edge + far[0] < room.rect.x1:
            models.append(other.transformed(float(edge), 0.01))
    if category == "table":
        models += _seats(rng, placed)
    if category in ("bed", "sofa", "desk", "cabinet") and bernoulli(rng, 0.4):
        art = picture(rng)
        top = max(1.55, float(high[2]) + 0.35)
        if top + float(art.bounds()[1][2]) < room.height - 0.1:
            models.append(art.transformed(x, 0.0, top))
    return _Stage(room, models, *_view_of(category, rng, placed))


def _seats(rng: np.random.Generator, board: FurnitureModel) -> list[FurnitureModel]:
    low, high = board.bounds()
    if high[2] < 0.6 or bernoulli(rng, 0.4):
        return []
    seat = rest.dining_chair(rng)
    reach = float(seat.bounds()[1][1])
    middle = float((low[1] + high[1]) / 2)
    made = []
    for side in (-1, 1):
        if bernoulli(rng, 0.6):
            edge = float(high[0]) + reach if side > 0 else float(low[0]) - reach
            made.append(seat.transformed(edge, middle, 0.0, side * math.pi / 2))
    return made


def _view_of(
    category: str, rng: np.random.Generator, placed: FurnitureModel
) -> tuple[np.ndarray, float, float]:
    """Point to look at, distance and camera height that show the object whole and large."""
    wanted = [piece for piece in placed.pieces if piece.category == category]
    low, high = FurnitureModel(wanted[:1]).bounds()
    target, size = (low + high) / 2, high - low
    reach = max(float(math.sqrt(size[0] ** 2 + (size[1] * 0.6) ** 2)), float(size[2]) * 1.25, 0.45)
    distance = reach * rng.uniform(0.75, 1.15) + float(size[1]) / 2 + 0.2
    if category == "sink":  # seen from above and near, as one stands before it
        return target, float(distance) * 0.72, float(rng.uniform(1.35, 1.65))
    return target, float(distance), float(rng.uniform(1.2, 1.65))


def _door_stage(rng: np.random.Generator) -> _Stage:
    wide, tall = float(rng.uniform(0.75, 0.9)), 2.02
    kind = "door" if bernoulli(rng, 0.25) else "door shut"
    room = _box_room(rng, "living room", [Opening(kind, 0, 0.0, wide, 0.0, tall)])
    fixed, _ = opening_models(rng, room)
    if kind == "door":
        fixed.append(_backdrop(rng))
    target = np.array([0.0, 0.0, 1.05])
    return _Stage(room, fixed, target, float(rng.uniform(2.0, 2.9)), float(rng.uniform(1.3, 1.6)))


def _backdrop(rng: np.random.Generator) -> FurnitureModel:
    """A wall behind an open doorway."""
    finishes = sample_room_finishes(rng, "living room")
    quad = np.array([[[3.0, -1.5, 0], [-3.0, -1.5, 0], [-3.0, -1.5, 2.5], [3.0, -1.5, 2.5]]])
    ground = np.array([[[-3.0, -1.5, 0], [3.0, -1.5, 0], [3.0, -0.1, 0], [-3.0, -0.1, 0]]])
    return (
        FurnitureModel().add("wall", (quad, finishes.wall)).add("floor", (ground, finishes.floor))
    )


def _window_opening(rng: np.random.Generator) -> Opening:
    low, high = float(rng.uniform(0.7, 1.0)), float(rng.uniform(1.95, 2.15))
    return Opening("window", 0, 0.0, float(rng.uniform(0.8, 1.6)), low, high)


def _window_stage(rng: np.random.Generator) -> _Stage:
    opening = _window_opening(rng)
    room = _box_room(rng, "kitchen", [opening])  # a room whose windows have no curtains
    fixed, _ = opening_models(rng, room)
    if bernoulli(rng, 0.3):
        fixed.append(small.plant(rng).transformed(float(rng.uniform(-1, 1)), 0.05))
    return _wall_view(rng, room, fixed, np.array([0.0, 0.0, (opening.low + opening.high) / 2]), 1.5)


def _curtain_stage(rng: np.random.Generator) -> _Stage:
    opening = _window_opening(rng)
    room = _box_room(rng, "living room", [opening])
    fixed, _ = opening_models(rng, room)
    hung = curtain(rng, opening.width, opening.low, opening.high, room.height)
    return _wall_view(rng, room, [*fixed[:1], hung], np.array([0.0, 0.1, 1.25]), 1.9)


def _picture_stage(rng: np.random.Generator) -> _Stage:
    room = _box_room(rng, "living room", [])
    art = picture(rng)
    height = float(rng.uniform(1.4, 1.6))
    size = float(max(art.bounds()[1]))
    models = [art.transformed(0, 0, height)]
    if bernoulli(rng, 0.4):
        models.append(
            storage.cabinet(rng, "sideboard").transformed(float(rng.uniform(-0.5, 0.5)), 0.01)
        )
    return _wall_view(rng, room, models, np.array([0.0, 0.0, height]), size * 3.2)


def _wall_view(
    rng: np.random.Generator,
    room: Room,
    models: list[FurnitureModel],
    target: np.ndarray,
    distance: float,
) -> _Stage:
    return _Stage(
        room, models, target, distance * float(rng.uniform(0.9, 1.3)), float(rng.uniform(1.3, 1.6))
    )


def _wall_stage(rng: np.random.Generator) -> _Stage:
    room = _box_room(rng, "living room", [])
    models = [small.plant(rng).transformed(1.0, 0.05)] if bernoulli(rng, 0.4) else []
    return _wall_view(rng, room, models, np.array([0.0, 0.0, 1.3]), 2.2)


def _floor_stage(rng: np.random.Generator) -> _Stage:
    room = _box_room(rng, "living room" if bernoulli(rng, 0.7) else "kitchen", [])
    models = [rest.chair(rng).transformed(0.8, 0.3)] if bernoulli(rng, 0.4) else []
    return _wall_view(rng, room, models, np.array([0.0, 0.8, 0.0]), 1.4)


def _ceiling_stage(rng: np.random.Generator) -> _Stage:
    room = _box_room(rng, "living room", [])
    lamp = small.pendant(rng, 0.12).transformed(0.0, float(room.rect.y1) / 2, room.height)
    return _wall_view(rng, room, [lamp], np.array([0.0, 0.8, room.height]), 1.5)


_SHELLS: dict[str, Callable[[np.random.Generator], _Stage]] = {
    "wall": _wall_stage,
    "floor": _floor_stage,
    "ceiling": _ceiling_stage,
    "door": _door_stage,
    "window": _window_stage,
    "curtain": _curtain_stage,
    "picture": _picture_stage,
}
