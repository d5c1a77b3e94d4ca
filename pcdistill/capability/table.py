"""Capability table: what was measured of some teachers, as a file that other runs can use.

A score belongs to a teacher with certain weights, to the words among which it chose, to what the
text encoder read for them, and to the images and masks that it was measured on. A table says all
of that, so that a run can tell whether the scores are its own. It keeps the pixels of every image
and not only the scores, so that either way to sum them up, and its interval, can be had of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pcdistill.capability.overlaps import ImageOverlaps
from pcdistill.errors import ArtifactError

FORMAT = "pcdistill capability table 1"


@dataclass(frozen=True)
class TeacherScores:
    """What one teacher showed on the images of every word."""

    revision: str
    """Of its weights and of what is done with them."""
    overlaps: Mapping[str, ImageOverlaps]
    """By word."""
    taught: tuple[str, ...] | None = None
    """Words that it was taught; None where it cannot tell."""
    selective: bool = False
    """Whether it is silent about most of what it sees."""
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CapabilityTable:
    """Scores of teachers that were measured on the same images among the same words."""

    text_encoder: str
    """Name, and revision of its weights where these are a file."""
    prompts: Mapping[str, str]
    """Word -> what the text encoder read for it, in any order."""
    synthesis: Mapping[str, Any]
    """What made the images and masks: `settings` by name, and the `provenance` of the models."""
    teachers: Mapping[str, TeacherScores]

    def differs_in(
        self, text_encoder: str, prompts: Mapping[str, str], teachers: Mapping[str, str]
    ) -> str | None:
        """Say why the scores are not those of a run; None where they are.

        Args:
            text_encoder: of the run.
            prompts: of the run, in any order.
            teachers: name -> revision of the run's teachers; the table may know more.
        """
        for name, revision in teachers.items():
            if name not in self.teachers:
                return f"has no scores of '{name}', only of {', '.join(self.teachers)}"
            if self.teachers[name].revision != revision:
                return (
                    f"has scores of '{name}' with revision {self.teachers[name].revision}, but "
                    f"the run has {revision}"
                )
        if self.text_encoder != text_encoder:
            return f"was measured with text encoder '{self.text_encoder}', not '{text_encoder}'"
        if set(self.prompts) != set(prompts):
            odd = sorted(set(self.prompts) ^ set(prompts))[0]
            where = "only the table" if odd in self.prompts else "only the run"
            return f"was measured among other words, of which '{odd}' is in {where}"
        for word, text in prompts.items():
            if self.prompts[word] != text:
                return f"was measured with '{self.prompts[word]}' for '{word}', not with '{text}'"
        return None


def table_to_json(table: CapabilityTable) -> dict[str, Any]:
    """Turn a table into JSON values."""
    return {
        "format": FORMAT,
        "text_encoder": table.text_encoder,
        "prompts": dict(table.prompts),
        "synthesis": dict(table.synthesis),
        "teachers": {name: scores_to_json(scores) for name, scores in table.teachers.items()},
    }


def table_from_json(content: Any, where: str) -> CapabilityTable:
    """Turn JSON values back into a table.

    Args:
        content: as `table_to_json` gives it.
        where: file that it is from, for messages.

    Raises:
        ArtifactError: it is no table; the text says where it fails.
    """
    written = content.get("format") if isinstance(content, dict) else None
    if written != FORMAT and str(written).startswith(FORMAT.rpartition(" ")[0]):
        raise ArtifactError(
            f'{where}: is a capability table of another version ("{written}"), expected '
            f'"{FORMAT}"; install the pcdistill that wrote it, or make one with `pcdistill '
            "capability RUN --out FILE`"
        )
    if not isinstance(content, dict) or written != FORMAT:
        raise ArtifactError(
            f'{where}: is no capability table of this version, expected "format": "{FORMAT}"; '
            "make one with `pcdistill capability RUN --out FILE`"
        )
    try:
        prompts = {str(word): str(text) for word, text in content["prompts"].items()}
        teachers = {
            str(name): scores_from_json(row, tuple(prompts))
            for name, row in content["teachers"].items()
        }
        return CapabilityTable(
            str(content["text_encoder"]), prompts, dict(content["synthesis"]), teachers
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ArtifactError(
            f"{where}: is damaged or was edited, expected what `pcdistill capability` writes "
            f"({type(error).__name__}: {error}); make it anew"
        ) from None


def scores_to_json(scores: TeacherScores) -> dict[str, Any]:
    """Turn the scores of one teacher into JSON values."""
    return {
        "revision": scores.revision,
        "overlaps": {word: list(map(list, found)) for word, found in scores.overlaps.items()},
        "taught": None if scores.taught is None else list(scores.taught),
        "selective": scores.selective,
        "provenance": dict(scores.provenance),
    }


def scores_from_json(row: Mapping[str, Any], words: Sequence[str]) -> TeacherScores:
    """Turn JSON values back into the scores of one teacher, for K words.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, AttributeError: other values than those.
    """
    taught = row["taught"]
    return TeacherScores(
        str(row["revision"]),
        {word: _overlaps(*row["overlaps"][word]) for word in words},
        None if taught is None else tuple(map(str, taught)),
        bool(row["selective"]),
        {str(key): str(value) for key, value in row["provenance"].items()},
    )


def _overlaps(intersections: Sequence[int], unions: Sequence[int]) -> ImageOverlaps:
    found = ImageOverlaps(tuple(map(int, intersections)), tuple(map(int, unions)))
    if any(not 0 <= inside <= union for inside, union in zip(*found, strict=True)):
        raise ValueError("an intersection is negative or larger than its union")
    return found
