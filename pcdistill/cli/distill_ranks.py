"""Training of a run's students by the processes that torchrun started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from pcdistill.artifacts import save_scan_index
from pcdistill.cli.run import load_run_config
from pcdistill.cli.run_checks import check_run
from pcdistill.cli.words import (
    SET_OPTION,
    OptionalPath,
    OptionalText,
    Overrides,
    flush_output,
    make_console,
    merge_repeated_option,
    run_with_error_reporting,
)
from pcdistill.distillation import Ranks, joined_ranks
from pcdistill.errors import ConfigError, TrainingError
from pcdistill.pipeline import (
    STAGE_NAMES,
    JoinedRun,
    Progress,
    RunContext,
    Stage,
    StatusTracker,
    Task,
    opened_workspace,
    run_unit,
)
from pcdistill.stages import STAGES
from pcdistill.suggest import suggest

_DISTILL = "distill"
_SILENCE = tyro.conf.arg(metavar="SECONDS")


def distill(
    config: Positional[Path],
    student: OptionalText = None,
    scan: OptionalPath = None,
    workspace: OptionalPath = None,
    set_: Overrides = (),
    max_silence: Annotated[float, _SILENCE] = 600.0,
) -> int:
    """Train the students of a run whose earlier stages are done, by all processes of torchrun.

    Args:
        config: YAML file of the run, or its workspace.
        student: Name of the one to train; all of the run by default.
        scan: As given to run.
        workspace: As given to run.
        set_: As given to run.
        max_silence: After so many seconds a process that does not answer is taken for lost.
    """
    loaded = load_run_config(config, scan, workspace, set_)
    run = RunContext(loaded)
    with joined_ranks(gpus=run.device.type == "cuda", max_silence=max_silence) as ranks:
        return train_students(run, ranks, str(config), student)


def train_students(run: RunContext, ranks: Ranks, config: str, student: str | None) -> int:
    """Bring students of a run up to date; returns the exit status, in every process.

    Args:
        run: as it was configured, the same in all processes.
        ranks: the processes; the first keeps the records, as a run in one process does.
        config: what the user named it by, for the error that gives a command.
        student: the one to train; None for all.

    Raises:
        ConfigError: an earlier stage is not done, there is no such student, or see `run_stages`.
        TrainingError: a student did not come out.
        LostRankError: another process ended.
    """
    show = Progress(console=make_console(), quiet=not ranks.is_first)
    joined: list[JoinedRun] = []
    """In the first process, what the run is in its workspace."""
    with ExitStack() as held:

        def begin() -> None:
            check_run(run, [_DISTILL])
            entered = opened_workspace(run, (0, 1), [_DISTILL], save_scan_index)
            joined.append(held.enter_context(entered))

        ranks.from_first(begin)
        stages = {stage.name: stage(run) for stage in STAGES}
        stage = stages[_DISTILL]
        tracker = StatusTracker(run.workspace, tuple(stages.values()))
        units = ranks.from_first(lambda: _chosen(stage.units(), student))
        for unit in units:
            task = ranks.from_first(partial(_claim_task, joined, tracker, stage, unit, config))
            if task is None:
                show.print_line(f"distill {unit}: up to date")
                continue
            _train_one(run, ranks, stage, task, tracker, show)
            for one in joined:
                one.claims.give_back(stage.name, unit)
    return 0


def _train_one(
    run: RunContext,
    ranks: Ranks,
    stage: Stage,
    task: Task,
    tracker: StatusTracker,
    show: Progress,
) -> None:
    """Train one student; the first process writes its record."""
    if not ranks.is_first:
        with suppress(TrainingError):  # the first process has it too, and says so
            stage.work(task, lambda done, total, words: None)
        ranks.from_first(lambda: None)
        return
    show.start_stage(stage.name, 1, 0)
    record = run_unit(run.workspace, stage, task, show.unit_callback(stage.name, task.unit))
    run.workspace.write_record(stage.name, task.unit, record)
    tracker.note(stage, task.unit, record)
    show.finish_unit(stage.name, task.unit, record.state, record.summary, record.seconds)
    show.end_stage(stage.name)

    def result() -> None:
        if record.state == "failed":
            raise TrainingError(record.summary)

    ranks.from_first(result)


def _chosen(units: Sequence[str], student: str | None) -> tuple[str, ...]:
    if student is None:
        return tuple(units)
    if student not in units:
        raise ConfigError(
            f"--student is '{student}', which the run does not train; {suggest(student, units)}"
        )
    return (student,)


def _claim_task(
    joined: Sequence[JoinedRun], tracker: StatusTracker, stage: Stage, unit: str, config: str
) -> Task | None:
    """What is to be done for a student, which is this run's then; None where it is up to date.

    Raises:
        ConfigError: what it learns from is not there, or another run trains it.
    """
    status = tracker.look_again(stage, unit)
    if status.state == "done":
        return None
    if status.obstacle:
        earlier = " ".join(STAGE_NAMES[: STAGE_NAMES.index(_DISTILL)])
        raise ConfigError(
            f"student {unit} cannot be trained yet: {status.obstacle}; bring what it needs up to "
            f"date first, as `pcdistill run {config} --only {earlier}` does for the earlier stages"
        )
    for one in joined:
        holder = one.claims.take(stage.name, unit)
        if holder is not None:
            raise ConfigError(
                f"student {unit} is being trained by {holder}; wait until it has ended, and run "
                "again"
            )
    status = tracker.look_again(stage, unit)
    if status.state != "done":
        return status.task
    for one in joined:  # another run has just trained it
        one.claims.give_back(stage.name, unit)
    return None


def main() -> None:
    """Run the command line of one of the processes."""
    words = merge_repeated_option(sys.argv[1:], SET_OPTION)
    with _ended_at_once():
        sys.exit(run_with_error_reporting(lambda: tyro.cli(distill, args=words, prog="distill")))


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """End one of several processes however the body ends, without Python's tidying up.

    While Python ends, threads of gloo still listen to the other processes; those that ended before
    make them abort the process ("terminate called"), whose exit status is lost then.
    """
    try:
        yield
    except BaseException as error:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise
        status = 1
        if isinstance(error, SystemExit):
            status = int(error.code or 0)  # of ours and of tyro, which give no words
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        flush_output()
        os._exit(status)


if __name__ == "__main__":
    main()
