"""Commands `demo`, `run` and `status`, and that of each stage's script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import (
    SET_OPTION,
    OptionalNumber,
    OptionalPath,
    OptionalText,
    Overrides,
    make_console,
    merge_repeated_option,
    run_with_error_reporting,
)
from pcdistill.errors import ConfigError, file_trouble
from pcdistill.pipeline import STAGE_NAMES, StageName

if TYPE_CHECKING:
    from pcdistill.pipeline import RayOptions, RunConfig

Engine = Literal["processes", "ray"]
"""What the workers of a run are."""

_ONLY = tyro.conf.arg(
    metavar="STAGE ...",
    help=f"Work on these stages only, any of: {', '.join(STAGE_NAMES)}.",
    help_behavior_hint="",
)
_ENGINE = tyro.conf.arg(metavar="processes|ray", help_behavior_hint="")
_CPUS = tyro.conf.arg(metavar="NUMBER", help_behavior_hint="")
_FROM = tyro.conf.arg(
    name="from",
    metavar="STAGE",
    help=f"Work on this stage and those after it, in this order: {', '.join(STAGE_NAMES)}.",
    help_behavior_hint="",
)


def demo(
    workspace: OptionalPath = None,
    seed: OptionalNumber = None,
    jobs: int = 0,
    set_: Overrides = (),
) -> int:
    """Run everything on embedded homes, offline, in a few minutes on two CPU cores.

    Args:
        workspace: Folder of all artefacts, by default runs/demo; a second call goes on there.
        seed: Furnishes other homes and draws other numbers; by default 0.
        jobs: Worker processes; 0 takes one per core, at most 4.
        set_: Settings to change, such as distill.epochs=5.
    """
    with as_file(files("pcdistill") / "configs" / "demo.yaml") as path:
        config = load_run_config(path, None, workspace, set_)
    if seed is not None:
        config = replace(config, run=replace(config.run, seed=seed))
    from pcdistill.cli.execute import execute_run

    return execute_run(config, make_console(), jobs=jobs, questions=True)


def run(
    config: Positional[Path],
    scan: OptionalPath = None,
    workspace: OptionalPath = None,
    only: Annotated[tuple[StageName, ...], _ONLY] = (),
    from_: Annotated[StageName | None, _FROM] = None,
    jobs: int = 0,
    shard: str = "0/1",
    redo: bool = False,
    verify: bool = False,
    estimate: bool = False,
    engine: Annotated[Engine, _ENGINE] = "processes",
    ray_address: OptionalText = None,
    ray_cpus: Annotated[float | None, _CPUS] = None,
    ray_gpus: Annotated[float | None, _CPUS] = None,
    set_: Overrides = (),
) -> int:
    """Bring a run up to date: whatever is finished is skipped.

    Args:
        config: YAML file of the run.
        scan: A scan, or a folder of scans, in place of ingest.path.
        workspace: Folder of all artefacts, in place of run.workspace.
        only: Work on these stages only; see `STAGE_NAMES`.
        from_: Work on this stage and those after it.
        jobs: Worker processes; 0 takes one per core, at most 4 on a machine.
        shard: i/n: work on every n-th unit beginning with the i-th, from 0.
        redo: Make the chosen stages anew.
        verify: First compare every file with its checksum, and make what is damaged anew.
        estimate: Do nothing but say what training would cost: steps, time, memory, disk.
        engine: What the workers are: processes of this machine (the default), or ray: actors on the
            machines of a Ray cluster.
        ray_address: The cluster, auto or HOST:PORT; by default RAY_ADDRESS, else one of this
            machine alone is started for the run.
        ray_cpus: Processors that a worker reserves, by default 1.
        ray_gpus: GPUs that a worker reserves, by default one where the cluster has some.
        set_: Settings to change, such as distill.epochs=5.
    """
    loaded = load_run_config(config, scan, workspace, set_)
    if estimate:
        from pcdistill.cli.estimate import print_estimate

        return print_estimate(loaded, make_console())
    from pcdistill.cli.execute import execute_run

    return execute_run(
        loaded,
        make_console(),
        only=only,
        start=from_,
        jobs=jobs,
        shard=shard,
        redo=redo,
        verify=verify,
        ray=_ray_options(engine, ray_address, ray_cpus, ray_gpus),
    )


def _ray_options(
    engine: Engine, address: str | None, cpus: float | None, gpus: float | None
) -> RayOptions | None:
    """What a run uses of which cluster; None where its workers are processes.

    Raises:
        ConfigError: options of Ray are given without it, or are no possible numbers.
    """
    if engine == "ray":
        from pcdistill.pipeline import RayOptions

        return RayOptions(address, cpus=1.0 if cpus is None else cpus, gpus=gpus)
    given = {"--ray-address": address, "--ray-cpus": cpus, "--ray-gpus": gpus}
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name} is given without --engine ray, which it is for; add that")
    return None


def status(
    config: Positional[Path],
    scan: OptionalPath = None,
    workspace: OptionalPath = None,
    verify: bool = False,
    set_: Overrides = (),
) -> int:
    """Show what is done, failed, stale or missing in each stage.

    Args:
        config: YAML file of the run, or its workspace.
        scan: As given to run.
        workspace: As given to run.
        verify: Compare every file with its checksum, and mark what is damaged: the next run makes
            it anew. The exit status is then 1 where something is wrong.
        set_: As given to run.
    """
    loaded = load_run_config(config, scan, workspace, set_)
    from rich.table import Table

    from pcdistill.pipeline import RunContext, UnitState, failed_units, stage_states
    from pcdistill.stages import STAGES

    opened = RunContext(loaded)
    states = get_args(UnitState)
    table = Table("stage", *states, title=str(opened.workspace.root))
    stages = [stage(opened) for stage in STAGES]
    console = make_console()
    sound = True
    if verify:
        from pcdistill.cli.verification import print_verification

        sound = print_verification(console, opened.workspace, stages)
    for name, counts in stage_states(opened.workspace, stages).items():
        table.add_row(name, *(str(counts[state]) if counts[state] else "-" for state in states))
    console.print(table)
    for failure in failed_units(opened.workspace, stages):
        console.print(f"{failure.stage} {failure.unit}: {failure.reason}", markup=False)
    return 0 if sound else 1


def run_stage_command(name: StageName, arguments: Sequence[str]) -> int:
    """Run the command of one stage's script; the options are the same for every stage."""

    def stage(
        config: Path,
        scan: OptionalPath = None,
        workspace: OptionalPath = None,
        jobs: int = 0,
        shard: str = "0/1",
        redo: bool = False,
        set_: Overrides = (),
    ) -> int:
        """Bring one stage of a run up to date.

        Args:
            config: YAML file of the run.
            scan: A scan, or a folder of scans, in place of ingest.path.
            workspace: Folder of all artefacts, in place of run.workspace.
            jobs: Worker processes; 0 takes one per core, at most 4.
            shard: i/n: work on every n-th unit beginning with the i-th, from 0.
            redo: Make the stage anew.
            set_: Settings to change, such as distill.epochs=5.
        """
        return run(config, scan, workspace, (name,), None, jobs, shard, redo, set_=set_)

    words = merge_repeated_option(arguments, SET_OPTION)
    return run_with_error_reporting(lambda: tyro.cli(stage, args=words, prog=name))


def load_run_config(
    path: Path, scan: Path | None, workspace: Path | None, overrides: Sequence[str]
) -> RunConfig:
    """Load a run's configuration with what the command line changes.

    Paths are taken as they are, whatever they would mean in YAML; a folder is the workspace that it
    is, from wherever it is named.

    Args:
        path: YAML file of a run, or its workspace.
        scan: in place of ingest.path.
        workspace: in place of run.workspace.
        overrides: "section.key=value".

    Raises:
        ConfigError: see `load_config`; or the workspace is a file, or one of a newer version.
    """
    from pcdistill.pipeline import load_config, require_known_format

    folder = path if path.is_dir() else None
    if folder is not None:
        require_known_format(folder)
    config = load_config(path / "config.yaml" if folder else path, overrides)
    if scan is not None:
        config = replace(config, ingest=replace(config.ingest, path=str(scan.absolute())))
    told = any(override.startswith("run.workspace=") for override in overrides)
    if workspace is None and folder is not None and not told:
        workspace = folder  # whatever it was called when it was made
    if workspace is not None:
        config = replace(config, run=replace(config.run, workspace=str(workspace)))
    root = Path(config.run.workspace)
    try:
        is_file = root.exists() and not root.is_dir()
    except OSError as error:
        raise ConfigError(f"--workspace: {file_trouble(error)}") from None
    if is_file:
        raise ConfigError(f"--workspace: {root} is a file, expected a folder; name another")
    require_known_format(root)
    return config
