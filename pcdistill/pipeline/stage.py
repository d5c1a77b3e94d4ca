"""What a stage is: units of work that read artefacts, compute, and write artefacts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def no_inputs(run: RunContext, unit: str) -> tuple[Dependency, ...]:
    """Inputs of a unit that reads no earlier stage."""
    return ()


def no_estimate(run: RunContext, unit: str) -> int:
    """Bytes of a unit whose outputs are too small to ask for."""
    return 0


def always_parallel(run: RunContext) -> bool:
    """For stages whose units may be worked on at once."""
    return True


@dataclass(frozen=True)
class Stage:
    """A function with named inputs and outputs.

    Its functions are those of a module, so that worker processes can be given the stage.

    `settings` names everything beside the inputs that the outputs depend on; it goes into the
    fingerprint, together with `version`, which rises when the meaning of the outputs changes.
    """

    name: str
    version: int
    units: Callable[[RunContext], tuple[str, ...]]
    settings: Callable[[RunContext, str], Mapping[str, Any]]
    inputs: Callable[[RunContext, str], tuple[Dependency, ...]]
    outputs: Callable[[RunContext, str], tuple[Path, ...]]
    """Files, or folders whose files all count."""
    work: Callable[[RunContext, Task, ProgressCallback], str]
    """Makes the outputs and returns one line worth reading."""
    estimate: Callable[[RunContext, str], int] = no_estimate
    """Bytes that a unit will have on the disk; a guess until the earlier stages are done."""
    parallel: Callable[[RunContext], bool] = always_parallel
    """Whether several units may be worked on at once; not where one uses the whole machine."""


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
