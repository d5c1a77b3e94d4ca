"""Labelled clouds as PLY, with class names and provenance in the comments of its header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pcdistill.scenes.exports.labelled_cloud import LabelledCloud, ascii_json
from pcdistill.scenes.source_frame import write_source_ply

_MAX_COMMENT = 900
"""Characters of JSON in one comment: a widespread reader takes lines of up to 1023."""


def write_labelled_ply(path: Path, cloud: LabelledCloud) -> None:
    """Write a PLY file whose vertices have ``int label``, ``float confidence``, ``int instance``.

    They follow coordinates, normals and class colours. Comments are ``class NUMBER "NAME"`` and
    ``KEY VALUE`` for each of the facts, values as JSON in ASCII; where one is longer than a line
    may be, further comments of the same key continue it.
    """
    write_source_ply(
        path,
        cloud.scene,
        colors=cloud.class_colors,
        labels=cloud.labels,
        scalars={"confidence": cloud.confidence},
        integers={"instance": cloud.instances},
        comments=list(_comments(cloud)),
    )


def _comments(cloud: LabelledCloud) -> Iterator[str]:
    for key, value in cloud.facts().items():
        yield from _lines(f"pcdistill.{key}", value)
    for number, name in cloud.names.items():
        yield from _lines(f"class {number}", name)


def _lines(key: str, value: object) -> Iterator[str]:
    text = ascii_json(value)
    for start in range(0, len(text), _MAX_COMMENT):
        yield f"{key} {text[start : start + _MAX_COMMENT]}"
