"""Measured capability and the reference images that it is measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.capability import CapabilityTable, TeacherScores, table_from_json, table_to_json
from pcdistill.errors import ArtifactError
from pcdistill.pipeline import Workspace, read_json, read_tensors, write_json


class ScoredTeacher(NamedTuple):
    """What a run knows of one teacher's skill, and from where."""

    teacher: str
    text_space: str
    pooled: bool
    """How the scores are summed up, see `ImageOverlaps.score`."""
    origin: str | None
    """Table that they are from; None where the run measured them."""
    table: CapabilityTable
    """Of this teacher alone."""

    @property
    def scores(self) -> TeacherScores:
        """What it showed on the images."""
        return self.table.teachers[self.teacher]

    def capability(self) -> dict[str, float | None]:
        """Score of each word in [0, 1]; None for a word of which there is no image."""
        return {
            word: found.score(pooled=self.pooled) if found.unions else None
            for word, found in self.scores.overlaps.items()
        }

    def sentence(self) -> str:
        """Say in a line how good it is, and of how many images that is known."""
        known = {word: score for word, score in self.capability().items() if score is not None}
        if not known:
            return "no class has an image, so nothing is known of it"
        best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
        mean = sum(known.values()) / len(known)
        images = sum(len(found.unions) for found in self.scores.overlaps.values())
        source = "" if self.origin is None else f", from {self.origin}"
        return (
            f"mean {mean:.2f}, best {best} {known[best]:.2f}, least {worst} {known[worst]:.2f} "
            f"over {len(known)} classes and {images} images{source}"
        )


def write_scores(workspace: Workspace, scored: ScoredTeacher) -> None:
    """Write what is known of one teacher's skill: a table of it, and what that comes to."""
    found = scored.scores.overlaps
    write_json(
        workspace.capability(scored.teacher),
        {
            "teacher": scored.teacher,
            "text_space": scored.text_space,
            "pooled": scored.pooled,
            "origin": scored.origin,
            "capability": scored.capability(),
            "intervals": {w: o.interval(pooled=scored.pooled) for w, o in found.items()},
            "images": {word: len(overlaps.unions) for word, overlaps in found.items()},
            "selective": scored.scores.selective,
            "table": table_to_json(scored.table),
        },
    )


def read_scores(workspace: Workspace, teacher: str) -> ScoredTeacher:
    """Read what `write_scores` wrote.

    Raises:
        ArtifactError: the file is missing or damaged.
        UnreadableError: it cannot be read.
    """
    path = workspace.capability(teacher)
    content = read_json(path)
    try:
        table = table_from_json(content["table"], str(path))
        return ScoredTeacher(
            content["teacher"], content["text_space"], content["pooled"], content["origin"], table
        )
    except (KeyError, TypeError):
        raise ArtifactError(f"{path} is damaged; delete it and run again") from None


def collect_table(workspace: Workspace, teachers: Sequence[str]) -> CapabilityTable:
    """Put the teachers of a run into one table, which other runs can take their scores from.

    Args:
        workspace: of the run.
        teachers: T names, at least one.

    Raises:
        ArtifactError: a teacher is not scored yet.
        UnreadableError: a file cannot be read.
    """
    tables = [read_scores(workspace, teacher).table for teacher in teachers]
    rows = {name: row for table in tables for name, row in table.teachers.items()}
    first = tables[0]
    return CapabilityTable(first.text_encoder, first.prompts, first.synthesis, rows)


def load_capability(
    workspace: Workspace, teachers: Sequence[str], vocabulary: Sequence[str]
) -> Tensor:
    """Read every teacher's capability, S_L and S_S of Eq. 5.

    Args:
        workspace: of the run.
        teachers: T names.
        vocabulary: K words.

    Returns:
        (T, K) float32 in [0, 1]; NaN for a word of which there is no image.
    """
    rows = [read_json(workspace.capability(teacher))["capability"] for teacher in teachers]
    return table_of_words(rows, vocabulary)


def table_of_words(rows: Sequence[Mapping[str, float | None]], vocabulary: Sequence[str]) -> Tensor:
    """Turn T rows of word -> number into (T, K) float32, NaN where a number is not known."""
    return torch.tensor(
        [[math.nan if row[word] is None else row[word] for word in vocabulary] for row in rows],
        dtype=torch.float32,
    )


def load_capability_intervals(
    workspace: Workspace, teachers: Sequence[str], vocabulary: Sequence[str]
) -> Tensor:
    """Read the bootstrap interval of every teacher's capability, over images.

    Args:
        workspace: of the run.
        teachers: T names.
        vocabulary: K words.

    Returns:
        (T, K, 2) float32, low and high; NaN where there are fewer than two images.
    """
    rows = []
    for teacher in teachers:
        scored = read_scores(workspace, teacher)
        found = (scored.scores.overlaps[word] for word in vocabulary)
        rows.append([o.interval(pooled=scored.pooled) or (math.nan, math.nan) for o in found])
    return torch.tensor(rows, dtype=torch.float32)


def load_taught_words(workspace: Workspace, teacher: str) -> tuple[str, ...] | None:
    """Read which words of the vocabulary a teacher was taught; None where it could not tell."""
    return read_scores(workspace, teacher).scores.taught


def load_reference_images(workspace: Workspace, category: str) -> tuple[Tensor, Tensor]:
    """Read the synthesised images (m, 3, H, W) uint8 and pseudo masks (m, H, W) bool of a class."""
    tensors = read_tensors(workspace.reference_images(category), ("images", "masks"))
    return tensors["images"], tensors["masks"].bool()
