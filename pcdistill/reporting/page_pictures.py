"""Pictures of the report page: embedded PNG images, grouped into sections, with their legends."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from itertools import groupby

from pcdistill.reporting.page_numbers import short_number
from pcdistill.reporting.report_data import HeatScale, LabelColor, Picture, ReportData
from pcdistill.visualization import heat_colormap, png_bytes

PICTURE_COLORS = 256
"""Colours of an embedded image; a quarter of the bytes, and hardly a difference to the eye."""


@dataclass(frozen=True)
class Swatch:
    """A small coloured square and what it means."""

    color: str
    """CSS."""
    name: str


@dataclass(frozen=True)
class Scale:
    """Legend of a heat map."""

    title: str
    low: str
    high: str
    gradient: str
    """CSS colours from low to high."""
    other: Swatch | None


@dataclass(frozen=True)
class Figure:
    """One picture."""

    number: int
    """Its place among all pictures; makes its anchor."""
    source: str
    """`data:` address with the PNG."""
    width: int
    height: int
    alt: str
    caption: str
    scale: Scale | None


@dataclass(frozen=True)
class FigureSection:
    """Pictures under one heading."""

    title: str
    figures: tuple[Figure, ...]
    large: bool
    """Two to a line instead of three."""


@dataclass(frozen=True)
class PictureWall:
    """All pictures."""

    labels: tuple[Swatch, ...]
    """Colours of the categories."""
    lines: tuple[tuple[FigureSection, ...], ...]
    """Sections of a single picture share a line; others have one each."""


def picture_wall(data: ReportData) -> PictureWall | None:
    """Encode and group the pictures; None where there are none."""
    if not data.pictures:
        return None
    sections: dict[str, list[Figure]] = {}
    for number, picture in enumerate(data.pictures):
        sections.setdefault(picture.section, []).append(_figure(number, picture))
    blocks = [
        FigureSection(title, tuple(figures), large=len(figures) in (2, 4))
        for title, figures in sections.items()
    ]
    lines: list[tuple[FigureSection, ...]] = []
    for alone, group in groupby(blocks, key=lambda block: len(block.figures) == 1):
        members = tuple(group)
        lines += [members] if alone else [(block,) for block in members]
    return PictureWall(tuple(_swatch(label) for label in data.labels), tuple(lines))


def _figure(number: int, picture: Picture) -> Figure:
    height, width = picture.image.shape[:2]
    encoded = base64.b64encode(png_bytes(picture.image, colors=PICTURE_COLORS)).decode()
    return Figure(
        number=number,
        source=f"data:image/png;base64,{encoded}",
        width=width,
        height=height,
        alt=picture.alt or picture.caption,
        caption=picture.caption,
        scale=None if picture.scale is None else _scale(picture.scale),
    )


def _scale(scale: HeatScale) -> Scale:
    return Scale(
        title=scale.title,
        low=short_number(scale.low),
        high=short_number(scale.high),
        gradient=", ".join(f"rgb({r} {g} {b})" for r, g, b in heat_colormap(9).tolist()),
        other=None if scale.other is None else _swatch(scale.other),
    )


def _swatch(label: LabelColor) -> Swatch:
    return Swatch(f"rgb{label.color}", label.name)
