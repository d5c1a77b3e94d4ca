"""Capability tables as files, and which of them a run can take its scores from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.capability import (
    CapabilityTable,
    DiffusionSettings,
    table_from_json,
    table_to_json,
)
from pcdistill.errors import ConfigError
from pcdistill.pipeline.artifact_files import read_json, write_json
from pcdistill.pipeline.config import ScoreConfig, SynthesizeConfig

_FREE = ("images", "batch")
"""Settings of synthesis that make scores surer but not others."""
_OF_DIFFUSION = tuple(known.name for known in fields(DiffusionSettings))
"""Settings that the embedded generator does not take."""


class FoundTable(NamedTuple):
    """A table whose scores are those of a run."""

    table: CapabilityTable
    origin: str
    """Where it is from, in words for users."""


def write_table(path: Path, table: CapabilityTable) -> None:
    """Write a table, whole or not at all."""
    write_json(path, table_to_json(table))


def read_table(path: Path) -> CapabilityTable:
    """Read what `write_table` wrote.

    Raises:
        ArtifactError: there is no such file, or it is no table.
        UnreadableError: it cannot be read.
    """
    return table_from_json(read_json(path), str(path))


@cache
def shipped_tables() -> tuple[CapabilityTable, ...]:
    """Tables of the teachers that come with the package."""
    folder = Path(str(files("pcdistill"))) / "capability" / "tables"
    return tuple(read_table(file) for file in sorted(folder.glob("*.json")))


def find_table(
    config: ScoreConfig,
    synthesis: SynthesizeConfig,
    text_encoder: str,
    prompts: Mapping[str, str],
    teachers: Mapping[str, str],
) -> FoundTable | None:
    """Find the table that a run takes its scores from; None where it measures them itself.

    Args:
        config: says which table.
        synthesis: how the run would make images. A table that comes with the package must have
            been measured on such images; one that is named may have been measured on any.
        text_encoder: of the run, with the revision of its weights.
        prompts: word -> what the text encoder reads for it.
        teachers: name -> revision.

    Raises:
        ConfigError: the table that is named has not the scores of the run.
        ArtifactError: it is no table.
    """
    if config.table == "measure" or not teachers:
        return None
    if config.table != "auto":
        path = Path(config.table)
        if not path.is_file():
            raise ConfigError(
                f"score.table is '{config.table}', but there is no such file; expected auto, "
                "measure or the path of a table that `pcdistill capability RUN --out FILE` wrote"
            )
        table = read_table(path)
        trouble = table.differs_in(text_encoder, prompts, teachers)
        if trouble is not None:
            raise ConfigError(
                f"score.table is '{path}', which {trouble}; set score.table: measure, or name a "
                "table of this run's teachers, words and text encoder"
            )
        return FoundTable(table, str(path))
    for table in shipped_tables():
        fits = table.differs_in(text_encoder, prompts, teachers) is None
        if fits and _is_made_alike(table.synthesis["settings"], synthesis):
            return FoundTable(table, "the table that comes with the package")
    return None


def synthesis_settings(synthesis: SynthesizeConfig) -> dict[str, Any]:
    """Settings of synthesis as a table records them."""
    return dict(vars(synthesis))


def _is_made_alike(settings: Mapping[str, Any], synthesis: SynthesizeConfig) -> bool:
    """Whether images of the recorded settings are such as a run would make."""
    free = (*_FREE, *_OF_DIFFUSION) if synthesis.generator == "embedded" else _FREE
    return all(
        settings.get(known.name, known.default) == getattr(synthesis, known.name)
        for known in fields(synthesis)
        if known.name not in free
    )
