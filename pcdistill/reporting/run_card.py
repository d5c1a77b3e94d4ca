"""Card of a trained student: a page of Markdown that says what it was made of, and how."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pcdistill.atomic_io import atomic_file


class CardFacts(NamedTuple):
    """What is known of a student when its training is done."""

    student: str
    title: str
    """Of the run."""
    data: Mapping[str, Any]
    """What it learned from, and what it was validated on, in words."""
    teachers: Mapping[str, Mapping[str, Any]]
    """Name -> revision and license of the weights, as far as they are known."""
    settings: Mapping[str, Any]
    """Of the training."""
    seed: int
    numbers: Mapping[str, Any]
    """Parameters, epochs, losses, accuracy on validation scenes."""
    device: torch.device
    seconds: float
    """Of all steps of the training."""


def write_run_card(path: Path, facts: CardFacts) -> None:
    """Write the card, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(run_card(facts), encoding="utf-8")


def run_card(facts: CardFacts) -> str:
    """Text of the card."""
    teachers = [
        (name, known.get("revision", "not known"), known.get("license", "not known"))
        for name, known in facts.teachers.items()
    ]
    machine = {
        "device": _device_name(facts.device),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "training time": _duration(facts.seconds),
    }
    versions = {"python": platform.python_version()}
    versions |= {name: version(name) for name in ("pcdistill", "torch", "numpy")}
    settings = [("seed", facts.seed), *facts.settings.items()]
    parts = [
        f"# Student {facts.student}\n",
        f'Trained by the run "{facts.title}".\n',
        _section("Data", _table(("what", "value"), facts.data.items())),
        _section("Teachers", _table(("teacher", "revision", "license of the weights"), teachers)),
        _section("Numbers", _table(("what", "value"), facts.numbers.items())),
        _section("Machine", _table(("what", "value"), machine.items())),
        _section("Versions", _table(("package", "version"), versions.items())),
        _section("Settings", _table(("setting", "value"), settings)),
    ]
    return "\n".join(parts)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(heads: Sequence[str], rows: Any) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return str(value).replace("|", "\\|").replace("\n", " ")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min {rest % 60} s"
