"""Names of all stages in the order in which data flows, without importing the stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from pcdistill.errors import ConfigError
from pcdistill.suggest import suggest

StageName = Literal[
    "ingest",
    "partition",
    "lift",
    "synthesize",
    "score",
    "fuse",
    "distill",
    "evaluate",
    "report",
]
STAGE_NAMES: tuple[str, ...] = get_args(StageName)


def require_stage_names(wanted: Iterable[str], known: Sequence[str] = STAGE_NAMES) -> None:
    """Refuse the first name that is not that of a stage.

    Raises:
        ConfigError: a name is not among `known`; says which was probably meant.
    """
    for name in wanted:
        if name not in known:
            raise ConfigError(f"unknown stage '{name}'; {suggest(name, known)}")
