"""Furniture models: pieces of one category each, made of parts with one finish each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from pcdistill.homes.classes import CLASS_INDEX, MATERIALS
from pcdistill.homes.materials import Finish
from pcdistill.homes.portable_math import snap
from pcdistill.homes.primitives import Array, rotate_z


@dataclass(frozen=True, eq=False)
class Part:
    """One welded piece of surface: (n, 4, 3) quads in metres, on the grid, with one finish."""

    quads: Array
    finish: Finish


@dataclass(frozen=True, eq=False)
class Piece:
    """One object of one category; the first part gives it its colour and material."""

    category: str
    parts: tuple[Part, ...]

    @property
    def class_index(self) -> int:
        """Position of the category in `CLASSES`."""
        return CLASS_INDEX[self.category]

    @property
    def material(self) -> str:
        """Material of the first part."""
        return MATERIALS[self.parts[0].finish.material]

    @property
    def color(self) -> str:
        """Colour word of the first part."""
        return self.parts[0].finish.color_name


@dataclass(eq=False)
class FurnitureModel:
    """Pieces that are placed together, in their own frame.

    x runs along the wall and is centred, y leaves the wall (the back is at y = 0), z is up.
    """

    pieces: list[Piece] = field(default_factory=list)
    _bounds: tuple[Array, Array] | None = field(default=None, repr=False)

    def add(self, category: str, *parts: tuple[Iterable[Array] | Array, Finish]) -> FurnitureModel:
        """Append a piece from (surfaces, finish) pairs; surfaces are one or several quad arrays."""
        made: list[Part] = []
        for surfaces, finish in parts:
            arrays = [surfaces] if isinstance(surfaces, np.ndarray) else list(surfaces)
            if arrays:
                made.extend(Part(snap(array), finish) for array in arrays if len(array))
        self.pieces.append(Piece(category, tuple(made)))
        self._bounds = None
        return self

    def extend(self, other: FurnitureModel) -> FurnitureModel:
        """Append the pieces of another model, which is already in this frame."""
        self.pieces.extend(other.pieces)
        self._bounds = None
        return self

    def transformed(self, x: float, y: float, z: float = 0.0, angle: float = 0.0) -> FurnitureModel:
        """A turned (radians, about z) and then shifted copy.

        Args:
            x: shift, metres.
            y: shift, metres.
            z: shift, metres.
            angle: turn about z before the shift, radians.
        """
        shift = np.array([x, y, z])
        return FurnitureModel(
            [
                Piece(
                    piece.category,
                    tuple(
                        Part(snap(rotate_z(part.quads, angle) + shift), part.finish)
                        for part in piece.parts
                    ),
                )
                for piece in self.pieces
            ]
        )

    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest corner (3,) of all parts."""
        if self._bounds is None:
            parts = [part.quads.reshape(-1, 3) for piece in self.pieces for part in piece.parts]
            corners = np.concatenate(parts)
            self._bounds = corners.min(axis=0), corners.max(axis=0)
        return self._bounds
