"""What a stage is: units of work that read artefacts, compute, and write artefacts."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pcdistill.callbacks import ProgressCallback
from pcdistill.pipeline.context import RunContext


@dataclass(frozen=True)
class Dependency:
    """A unit of an earlier stage that a unit reads."""

    stage: str
    unit: str
    required: bool = True
    """Where False, the unit goes on without it when it failed."""


@dataclass(frozen=True)
class Task:
    """One unit about to be worked on."""

    unit: str
    inputs: tuple[Dependency, ...]
    """Those that are finished."""
    fingerprint: str
    """Marks half-way states, so that only the same work is resumed."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the finished inputs, by "stage unit"."""

    def units_of(self, stage: str) -> tuple[str, ...]:
        """Names of the finished units of one earlier stage."""
        return tuple(i.unit for i in self.inputs if i.stage == stage)


class Stage(ABC):
    """A function with named inputs and outputs, opened for one run.

    A subclass takes from the context of the run what it uses, and nothing else of it: its
    constructor does no work and loads no model. Worker processes are given the subclass.

    `settings` names everything beside the inputs that the outputs depend on; it goes into the
    fingerprint, together with `version`, which rises when the meaning of the outputs changes.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    memory_advice: ClassVar[str] = ""
    """What to set so that a unit takes less memory, such as "lower lift.batch"."""

    @abstractmethod
    def __init__(self, run: RunContext) -> None: ...

    @abstractmethod
    def units(self) -> tuple[str, ...]:
        """Names of all units of the run."""

    @abstractmethod
    def settings(self, unit: str) -> Mapping[str, Any]:
        """JSON values that the outputs of a unit depend on."""

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """Units of earlier stages that a unit reads; none by default."""
        return ()

    @abstractmethod
    def outputs(self, unit: str) -> tuple[Path, ...]:
        """Files of a unit, or folders whose files all count."""

    @abstractmethod
    def work(self, task: Task, report: ProgressCallback) -> str:
        """Make the outputs of a unit; returns one line worth reading."""

    def estimate(self, unit: str) -> int:
        """Bytes that a unit will have on the disk; a guess until the earlier stages are done."""
        return 0

    def parallel(self) -> bool:
        """Whether several units may be worked on at once; not where one uses the whole machine."""
        return True


def fingerprint(stage: Stage, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Hash of the format version, settings and inputs of a unit, 32 hexadecimal digits."""
    everything = {
        "stage": stage.name,
        "version": stage.version,
        "settings": dict(settings),
        "inputs": dict(inputs),
    }
    text = json.dumps(everything, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def list_files(outputs: tuple[Path, ...]) -> list[Path]:
    """Every file among the outputs, those inside folders included."""
    files: list[Path] = []
    for output in outputs:
        files += (
            sorted(p for p in output.rglob("*") if p.is_file()) if output.is_dir() else [output]
        )
    return files
