"""Examples of generated images on the report page: embedded JPEG images in rows."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from pcdistill.reporting.report_data import ExampleTile, ReferenceSheet
from pcdistill.visualization import jpeg_bytes


@dataclass(frozen=True)
class TileFigure:
    """One view of an image."""

    source: str
    """`data:` address with the JPEG."""
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class ExampleLine:
    """One word."""

    word: str
    note: str
    columns: int
    """Views of each image."""
    figures: tuple[TileFigure, ...]
    """Of all images, one image after the other."""


@dataclass(frozen=True)
class ExampleSheet:
    """The section of the page."""

    summary: str
    lines: tuple[ExampleLine, ...]


def example_sheet(sheet: ReferenceSheet | None) -> ExampleSheet | None:
    """Encode the images; None where there are none."""
    if sheet is None:
        return None
    return ExampleSheet(
        sheet.summary,
        tuple(
            ExampleLine(
                shown.word,
                shown.note,
                max(len(tiles) for tiles in shown.samples),
                tuple(_figure(shown.word, tile) for tiles in shown.samples for tile in tiles),
            )
            for shown in sheet.classes
        ),
    )


def _figure(word: str, tile: ExampleTile) -> TileFigure:
    height, width = tile.image.shape[:2]
    encoded = base64.b64encode(jpeg_bytes(tile.image)).decode()
    return TileFigure(
        source=f"data:image/jpeg;base64,{encoded}",
        width=width,
        height=height,
        alt=f"{word}: {tile.caption}",
        caption=tile.caption,
    )
