"""The temporal ensemble and its settings, from one hand-over: docs/temporal_ensemble.md."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from pcdistill import capability
from pcdistill.pipeline import read_json, write_json
from pcdistill.scenes import load_label_set

from . import DOCS
from .ensemble_handover import Study
from .ensemble_page import SeedResults, against_none, study_page
from .ensemble_settings import PAPER, SETTINGS, LabelSettings
from .ensemble_training import train_on

CONFIG = Path(__file__).with_name("homes.yaml")
SEEDS = (0, 1, 2)
"""Of development homes; docs/results.md reports other seeds and only test homes."""
BEFORE = ("ingest", "partition", "lift", "score", "fuse")
TABLE = Path(capability.__file__).with_name("tables") / "embedded.json"
ALWAYS = (
    "ingest.homes=development",
    "ingest.train=12",
    "ingest.validation=8",
    "distill.students=[superpoint]",
    "distill.voxel_size=0.15",
    f"score.table={TABLE}",
)
"""Where the study departs from the run that docs/results.md reports."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="SEED")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="settings to measure; all by default"
    )
    parser.add_argument("--workspace", type=Path, default=Path("runs/ensemble"))
    parser.add_argument("--write", type=Path, default=DOCS / "temporal_ensemble.md")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train on from the hand-over of each seed with each setting that was not measured before."""
    names = list(SETTINGS) if arguments.only is None else arguments.only
    for seed in arguments.seeds:
        workspace = arguments.workspace / f"seed{seed}"
        _prepare(workspace, seed)
        study = Study(workspace)
        for epochs in sorted({_joins(one) for one in SETTINGS.values()}, reverse=True):
            study.hand_over(epochs)  # the earlier ones first, on the way to the later
        if not (workspace / "hand_over.json").exists():
            write_json(workspace / "hand_over.json", study.describe())
        for name in names:
            _measure(study, name, workspace / "settings" / f"{name}.json")
            _write(arguments)
    return _summary(*_write(arguments))


def _write(arguments: argparse.Namespace) -> tuple[list[SeedResults], tuple[str, ...]]:
    """Write the page of what is there of all seeds; whoever interrupts has it."""
    found = []
    for folder in sorted(arguments.workspace.glob("seed*")):
        if (folder / "hand_over.json").exists():
            settings = {
                path.stem: read_json(path) for path in sorted((folder / "settings").glob("*.json"))
            }
            seed = int(folder.name.removeprefix("seed"))
            found.append(SeedResults(seed, read_json(folder / "hand_over.json"), settings))
    names = load_label_set("scannet20").names
    arguments.write.write_text(study_page(found, names, _about(found)))
    return found, names


def _about(found: list[SeedResults]) -> list[str]:
    seeds = ", ".join(str(one.seed) for one in found)
    return [
        "What `python tools/benchmark.py ensemble` wrote, on development homes of seeds "
        f"{seeds}. No test home was looked at. The superpoint student of each seed is trained "
        "once, to where the ensemble joins; from there each setting trains to the end, on the same "
        "batches, with the same learning rate. One that begins earlier or later is held against "
        "the same student without labels.",
        "",
        "`paper`, `release` and `cosine targets` are the settings that `distill.ensemble_preset` "
        "names `paper`, `release` and `targets`, its default ([training]"
        "(training.md#the-temporal-ensemble)); the other rows exist in this benchmark only, but "
        "for what single keys of `distill` reach.",
        "",
        "- otherwise as in `tools/benchmarks/homes.yaml` with "
        + ", ".join(f"`{one}`" for one in ALWAYS if not one.startswith("score."))
        + ", and the package's table of capability: fewer steps and larger voxels than in "
        "[results](results.md), so compare rows with each other only",
        "- the default was chosen by these numbers, on the homes on which they were measured: its "
        "own is a little too good for that; of thirty intervals of 95 % one or two leave out zero "
        "by chance",
        f"- {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    ]


def _summary(found: list[SeedResults], names: tuple[str, ...]) -> dict[str, Any]:
    apart = {name: against_none(found, name, len(names)) for name in SETTINGS}
    return {
        "seeds": [one.seed for one in found],
        "less_without": {key: vars(value) for key, value in apart.items() if value is not None},
    }


def _measure(study: Study, name: str, path: Path) -> None:
    if path.exists():
        return
    settings = SETTINGS[name]
    path.parent.mkdir(exist_ok=True)
    state = study.hand_over(_joins(settings))
    network, text = study.network(), study.texts.of(settings)
    train_on(network, state, study.scenes, settings, text, study.config, study.seed, study.batches)
    write_json(path, {**vars(settings), **study.measure(network)})


def _joins(settings: LabelSettings) -> int:
    """Epochs before the end from which a setting goes on."""
    return max(settings.epochs, PAPER.epochs)


def _prepare(workspace: Path, seed: int) -> None:
    """Bring the fused features of a seed's homes up to date."""
    command = [sys.executable, "-m", "pcdistill.cli", "run", str(CONFIG), "--jobs", "1"]
    command += ["--workspace", str(workspace), "--only", *BEFORE]
    command += ["--set", f"run.seed={seed}", *ALWAYS]
    subprocess.run(command, check=True)
