"""Command `slurm`: a script that runs a configuration on a SLURM cluster, a job for each stage."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import OptionalPath, OptionalText, Overrides
from pcdistill.errors import ConfigError
from pcdistill.pipeline import STAGE_NAMES, StageName
from pcdistill.version import __version__

if TYPE_CHECKING:
    from pcdistill.pipeline import RunConfig

_ONLY = tyro.conf.arg(
    metavar="STAGE ...",
    help=f"These stages only, any of: {', '.join(STAGE_NAMES)}.",
    help_behavior_hint="",
)
_SBATCH = tyro.conf.arg(
    metavar="NAME=VALUE ...",
    help="More options of sbatch for every job, without dashes, such as account=lab qos=high.",
    help_behavior_hint="",
)
_TRAINING = "distill"
_ON_GPU = ("lift", "synthesize", "score", "distill", "evaluate")
"""Stages whose models compute on a GPU where there is one."""
_OWN = ("array", "chdir", "dependency", "job-name", "output", "parsable", "wrap")
"""Options of sbatch that the script sets itself."""
_OPTION = re.compile(r"[a-z][a-z-]*(=.*)?", re.DOTALL)


@dataclass(frozen=True)
class JobSettings:
    """What the jobs of a script have in common."""

    config: Path
    scan: Path | None
    workspace: Path
    """Where the run is, and the jobs write their output."""
    overrides: tuple[str, ...]
    array: int
    jobs: int
    gpus: int
    options: tuple[str, ...]
    """Of sbatch, with dashes."""


def slurm(
    config: Positional[Path],
    array: int = 16,
    scan: OptionalPath = None,
    workspace: OptionalPath = None,
    only: Annotated[tuple[StageName, ...], _ONLY] = (),
    jobs: int = 0,
    gpus: int = 0,
    cpus: int = 0,
    memory: OptionalText = None,
    time: OptionalText = None,
    partition: OptionalText = None,
    sbatch: Annotated[tuple[str, ...], _SBATCH] = (),
    set_: Overrides = (),
) -> int:
    """Print a script that submits a run to SLURM: an array job a stage, each after the one before.

    Args:
        config: YAML file of the run.
        array: How many runs share the units of a stage; as many as it has units at most.
        scan: As given to run.
        workspace: As given to run; on a file system that all nodes share.
        only: These stages only; see `STAGE_NAMES`.
        jobs: Worker processes of each run; 0 takes one per core, at most 4.
        gpus: GPUs of the training, by torchrun if several; others get one.
        cpus: Cores of each run, as --cpus-per-task.
        memory: Memory of each run, as --mem, such as 32G.
        time: Longest time of each job, as --time, such as 12:00:00.
        partition: As --partition.
        sbatch: More options of sbatch, without dashes.
        set_: As given to run.
    """
    from pcdistill.cli.run import load_run_config

    for name, number, least in (("array", array, 1), ("jobs", jobs, 0), ("gpus", gpus, 0)):
        if number < least:
            raise ConfigError(f"--{name} is {number}, expected {least} or more")
    loaded = load_run_config(config, scan, workspace, set_)
    given = {"partition": partition, "time": time, "mem": memory}
    named = [f"{name}={value}" for name, value in given.items() if value is not None]
    if cpus:
        named.append(f"cpus-per-task={cpus}")
    settings = JobSettings(
        config.absolute(),
        None if scan is None else scan.absolute(),
        Path(loaded.run.workspace).absolute(),
        tuple(set_),
        array,
        jobs,
        gpus,
        tuple(f"--{option}" for option in (*named, *_checked(sbatch))),
    )
    sys.stdout.write(script(settings, count_units(loaded, only)))
    return 0


def count_units(config: RunConfig, only: Sequence[str]) -> dict[str, int]:
    """How many units each stage of a run has; all stages, or some."""
    from pcdistill.pipeline import RunContext
    from pcdistill.stages import STAGES

    run = RunContext(config)
    chosen = [stage for stage in STAGES if not only or stage.name in only]
    return {stage.name: len(stage(run).units()) for stage in chosen}


def script(settings: JobSettings, units: dict[str, int]) -> str:
    """Compose the script.

    Args:
        settings: of all jobs.
        units: how many units each stage has; one without any has no job.

    Returns:
        Bash, in which every word that a user gave is quoted.
    """
    return "\n".join(_lines(settings, units)) + "\n"


def _lines(settings: JobSettings, units: dict[str, int]) -> Iterator[str]:
    yield "#!/usr/bin/env bash"
    yield f"# Printed by `pcdistill slurm` of pcdistill {__version__}: a job a stage, each of which"
    yield "# begins when the one before has ended. Runs of one array share the units of the stage."
    yield "# A scene that fails stops nobody else: submit the same script again to go on."
    yield "set -euo pipefail"
    output = settings.workspace / "slurm"
    yield f"mkdir -p {shlex.quote(str(output))}"
    pattern = str(output).replace("%", "%%")  # which sbatch would fill in
    after = ""
    for stage in [name for name, number in units.items() if number]:
        words = ["sbatch", "--parsable", f"--job-name=pcdistill-{stage}", f"--chdir={Path.cwd()}"]
        size = 1 if stage == _TRAINING else min(settings.array, units[stage])
        if size > 1:
            words.append(f"--array=0-{size - 1}")
        number = "%A_%a" if size > 1 else "%j"
        words.append(f"--output={pattern}/{stage}-{number}.out")
        if settings.gpus and stage in _ON_GPU:
            words.append(f"--gpus={settings.gpus if stage == _TRAINING else 1}")
        command = shlex.join(_command(settings, stage))
        words += [*settings.options, f"--wrap=exec {command}"]
        yield ""
        yield f"# {stage}: {units[stage]} units"
        yield f"job=$({shlex.join(words[:2])}{after} {shlex.join(words[2:])})"
        yield "job=${job%%;*}  # without the name of the cluster"
        yield f'echo "{stage}: job $job"'
        after = ' --dependency="afterany:$job"'


def _command(settings: JobSettings, stage: str) -> list[str]:
    """The command line of a stage's job."""
    words = [sys.executable, "-m"]
    if stage == _TRAINING and settings.gpus > 1:
        words += ["torch.distributed.run", "--standalone", f"--nproc-per-node={settings.gpus}"]
        words += ["--module", "pcdistill.cli.distill_ranks", str(settings.config)]
    else:
        words += ["pcdistill.cli", "run", str(settings.config), "--only", stage]
        words += ["--jobs", str(settings.jobs)]
    words += [] if settings.scan is None else ["--scan", str(settings.scan)]
    words += ["--workspace", str(settings.workspace)]
    return [*words, *(["--set", *settings.overrides] if settings.overrides else [])]


def _checked(options: Sequence[str]) -> Iterator[str]:
    """Options of sbatch that a user gave.

    Raises:
        ConfigError: one is none, or is set by the script itself.
    """
    for option in options:
        name = option.partition("=")[0]
        if not _OPTION.fullmatch(option):
            raise ConfigError(
                f"--sbatch: '{option}' is no option of sbatch, expected NAME=VALUE without dashes, "
                "such as account=lab"
            )
        if name in _OWN:
            raise ConfigError(f"--sbatch: {name} is set by the script itself; leave it out")
        yield option
