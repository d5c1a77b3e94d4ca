"""Stage runner: one stage after the other, as one of any number of runs in a workspace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import yaml

from pcdistill.atomic_io import atomic_file, make_folder
from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_to_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.disk_space import check_disk_space, estimate_new_bytes
from pcdistill.pipeline.process_workers import ProcessWorkers
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.stage import Stage
from pcdistill.pipeline.stage_names import require_stage_names
from pcdistill.pipeline.stage_work import SharedRun, StageWork
from pcdistill.pipeline.status import StatusTracker
from pcdistill.pipeline.summary import RunSummary
from pcdistill.pipeline.worker_pool import WorkerPool
from pcdistill.pipeline.workers import Workers
from pcdistill.pipeline.workspace_format import require_known_format, write_format
from pcdistill.pipeline.workspace_lock import JoinedRun, joined_workspace


def run_stages(
    config: RunConfig,
    stages: Sequence[type[Stage]],
    *,
    only: Sequence[str] = (),
    start: str | None = None,
    jobs: int = 1,
    workers: Workers | None = None,
    shard: tuple[int, int] = (0, 1),
    redo: bool = False,
    progress: Progress | None = None,
    prepare: Callable[[RunContext], None] = lambda run: None,
) -> RunSummary:
    """Bring the run up to date.

    Args:
        config: of the run.
        stages: all stages, in order.
        only: names of the stages to work on; all by default.
        start: name of the first stage to work on.
        jobs: worker processes of this machine.
        workers: in place of such processes.
        shard: (i, n): of every stage's units, work on those whose number modulo n is i.
        redo: make everything chosen anew.
        progress: where it is told how the run goes.
        prepare: called once no run with other settings can write to the workspace.

    Raises:
        ConfigError: a stage name is unknown, a setting is impossible, the workspace cannot be
            written or a run with other settings works there, or the disk is too small.
    """
    chosen = [stage.name for stage in select_stages(stages, only, start)]
    run = RunContext(config)
    show = progress or Progress(quiet=True)
    begin = time.perf_counter()
    with closing(show), opened_workspace(run, shard, chosen, prepare) as joined:
        opened = {stage.name: stage(run) for stage in stages}
        tracker = StatusTracker(run.workspace, tuple(opened.values()))
        with closing(WorkerPool(workers or ProcessWorkers(config, jobs))) as pool:
            shared = SharedRun(run.workspace, tracker, pool, joined, show, shard, redo)
            needs = {
                name: estimate_new_bytes(
                    run.workspace, opened[name], shared.note_units_to_do(opened[name])
                )
                for name in chosen
            }
            if line := check_disk_space(run.workspace, needs):
                show.print_line(line)
            for name in chosen:
                StageWork(shared, opened[name]).run()
            pool.close(wait=True)
    shared.summary.seconds = time.perf_counter() - begin
    return shared.summary


@contextmanager
def opened_workspace(
    run: RunContext,
    shard: tuple[int, int],
    stages: Sequence[str],
    prepare: Callable[[RunContext], None],
) -> Iterator[JoinedRun]:
    """Make the workspace of a run, join those that work there, and note what the run is about.

    Args:
        run: whose workspace it is.
        shard: (i, n).
        stages: names of those that the run works on.
        prepare: called once no run with other settings can write to the workspace.

    Raises:
        ConfigError: it is no folder that can be written, or a run with other settings works there.
    """
    root = run.workspace.root
    with ExitStack() as held:
        try:
            make_folder(root, "--workspace")
            require_known_format(root)
            joined = held.enter_context(joined_workspace(run.workspace, run.config, shard, stages))
            write_format(root)
            prepare(run)
            with atomic_file(run.workspace.config) as temporary:
                text = yaml.safe_dump(config_to_dict(run.config), sort_keys=False)
                temporary.write_text(text)
        except OSError as error:
            raise ConfigError(
                f"{root}: no workspace can be written there ({error}); give a folder that can be "
                "written with --workspace"
            ) from None
        yield joined


def select_stages(
    stages: Sequence[type[Stage]], only: Sequence[str], start: str | None
) -> list[type[Stage]]:
    """Those of `stages` that `--only` and `--from` name.

    Raises:
        ConfigError: a name is not that of a stage.
    """
    names = [stage.name for stage in stages]
    require_stage_names([*only, *([start] if start else [])], names)
    first = names.index(start) if start else 0
    return [s for s in stages[first:] if not only or s.name in only]
