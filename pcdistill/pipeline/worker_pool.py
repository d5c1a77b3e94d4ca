"""Distribution of tasks to workers: few in flight, lost ones again, each told how it went."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

from pcdistill.callbacks import ProgressCallback
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.stage import Stage, Task
from pcdistill.pipeline.unit_work import lost_record
from pcdistill.pipeline.workers import Workers
from pcdistill.pipeline.workspace import UnitRecord

_LISTEN_EVERY = 1.0
"""Seconds between looks at what workers say of their progress."""
_RETRIES = 1
"""How often a unit is given to a new worker after its worker died."""


class WorkerPool:
    """Workers of a run and what is in flight among them."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    @property
    def takes_single_units(self) -> bool:
        """Whether a unit that is alone is made by a worker too."""
        return self._workers.elsewhere

    def can_work(self) -> bool:
        """Whether the workers can make units; they begin where they have not.

        Raises:
            ConfigError: see `Workers.start`.
        """
        return self._workers.start()

    def close(self, *, wait: bool = False) -> None:
        """End the workers; see `Workers.close`."""
        self._workers.close(wait=wait)

    def outcomes(
        self, stage: type[Stage], tasks: Iterable[Task], show: Progress, *, alone: bool = False
    ) -> Iterator[tuple[str, UnitRecord]]:
        """Work on units side by side; gives each with how it went, as they end.

        Where all in flight are lost with one worker, none tells which of them killed it: each is
        then tried again with no other beside it, so that no unit is charged twice for another.

        Args:
            stage: of the units.
            tasks: of them; the next is drawn only when a worker can take it soon. Nothing is heard
                of the workers while one is drawn.
            show: told how far the workers are.
            alone: whether it is known that one is made at a time, which may use a whole machine.

        Raises:
            ConfigError: a worker found that a setting is wrong, or see `Workers.listen`.
        """
        workers = self._workers
        fresh = iter(tasks)
        again: deque[Task] = deque()
        deaths: Counter[str] = Counter()
        running: dict[Future[UnitRecord], Task] = {}
        reports: dict[str, ProgressCallback] = {}
        drawn_all = False
        while running or again or not drawn_all:
            room = workers.room(len(running))
            suspected = again or any(deaths[task.unit] for task in running.values())
            if alone or (suspected and workers.die_together):
                room = min(room, 1 - len(running))
            while room > 0 and (again or not drawn_all):
                task = again.popleft() if again else next(fresh, None)
                if task is None:
                    drawn_all = True
                    break
                running[workers.submit(stage, task, alone=alone)] = task
                room -= 1
            if drawn_all and not running and not again:
                break
            for unit, done, total, words in workers.listen(running, _LISTEN_EVERY):
                reports.setdefault(unit, show.unit_callback(stage.name, unit))(done, total, words)
            missing = []
            for future in [future for future in running if future.done()]:
                task = running.pop(future)
                try:
                    record = future.result()
                except workers.lost:
                    missing.append(task)
                else:
                    yield task.unit, record
            if missing and workers.die_together:
                missing += running.values()
                running.clear()
                workers.close()
            for task in missing:
                deaths[task.unit] += 1
                if deaths[task.unit] <= _RETRIES:
                    again.append(task)
                else:
                    reason = f"its worker process died twice (out of memory?); {workers.advice}"
                    yield task.unit, lost_record(task, reason)
