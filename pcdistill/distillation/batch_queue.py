"""Batches of an epoch: threads prepare those of the next step while the student learns from one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.distillation.step_batches import BatchMaker, BatchPlan, PreparedScene, StepBatch
from pcdistill.distillation.voxel_limit import VoxelLimit


class _Pending(NamedTuple):
    """A part of a step that is being prepared."""

    plan: BatchPlan
    scenes: list[Callable[[], PreparedScene]]
    """Each gives a scene of this process, when it is ready."""


class BatchQueue:
    """Batches of the steps of an epoch, one step after the other.

    What is random is drawn by the thread that trains, in the order of the steps; threads only
    carry it out, a scene each. So the number of threads changes nothing but the time.
    """

    def __init__(
        self,
        maker: BatchMaker,
        steps: Sequence[Sequence[Sequence[int]]],
        is_mine: Callable[[int], bool],
        epoch: int,
        generator: torch.Generator,
        workers: int,
        limit: VoxelLimit,
    ) -> None:
        """Begin with the first step.

        Args:
            maker: of the batches.
            steps: scenes of each part of each step, of all processes.
            is_mine: whether this process has the scene of a number.
            epoch: from 0.
            generator: of the augmentation; others may draw from it between `take` and
                `prepare_next`.
            workers: threads; 0 makes each batch when it is taken.
            limit: by which parts are cut further.
        """
        self._maker = maker
        self._steps = iter(steps)
        self._is_mine = is_mine
        self._epoch = epoch
        self._generator = generator
        self._limit = limit
        self._threads = ThreadPoolExecutor(workers) if workers else None
        self._pending: list[_Pending] = []
        self.resume_state: Tensor = generator.get_state()
        """(B,) uint8: state of the generator after all draws for steps that were taken."""

    def __enter__(self) -> BatchQueue:
        self.prepare_next()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave what was not taken."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def take(self) -> list[StepBatch]:
        """The parts of the next step, once they are there; called by all processes.

        Raises:
            PcdistillError: a scene is missing or damaged.
        """
        pending, self._pending = self._pending, []
        parts = [
            part
            for plan, scenes in pending
            for part in self._limit.cut(plan, [ready() for ready in scenes])
        ]
        return [self._maker.finish(plan, prepared) for plan, prepared in parts]

    def prepare_next(self) -> None:
        """Draw for the step after the one that was taken, where there is one, and begin with it."""
        self.resume_state = self._generator.get_state()
        for numbers in next(self._steps, ()):
            own = [self._is_mine(number) for number in numbers]
            plan = self._maker.draw(numbers, own, self._epoch, self._generator)
            places = [place for place, mine in enumerate(own) if mine]
            self._pending.append(_Pending(plan, [self._begin(plan, place) for place in places]))

    def _begin(self, plan: BatchPlan, place: int) -> Callable[[], PreparedScene]:
        if self._threads is None:
            return lambda: self._maker.prepare(plan, place)
        future: Future[PreparedScene] = self._threads.submit(self._maker.prepare, plan, place)
        return future.result
