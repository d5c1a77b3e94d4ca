"""What the workers of a run are to who hands out their tasks, wherever they live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import Future
from typing import ClassVar, NamedTuple

from pcdistill.pipeline.stage import Stage, Task
from pcdistill.pipeline.workspace import UnitRecord


class UnitProgress(NamedTuple):
    """How far a worker is with a unit."""

    unit: str
    done: int
    total: int
    words: str
    """What a step is, such as "frames"."""


class Workers(ABC):
    """Workers of a run; each holds the models that it has loaded, and makes a unit at a time."""

    lost: ClassVar[tuple[type[Exception], ...]]
    """What the future of a unit raises whose worker died."""
    die_together: ClassVar[bool]
    """Whether all units in flight are lost with one worker, so that none tells which killed it."""
    elsewhere: ClassVar[bool]
    """Whether a unit that is alone is made by them too, rather than by the process of the run."""
    advice: ClassVar[str]
    """What to try where a unit's worker dies again and again."""

    @abstractmethod
    def start(self) -> bool:
        """Begin, unless they have begun; returns whether they can make units.

        Raises:
            ConfigError: they are where they cannot be reached, or do not fit this process.
        """

    @abstractmethod
    def room(self, running: int) -> int:
        """How many more tasks they can take soon.

        Args:
            running: how many they have.
        """

    @abstractmethod
    def submit(self, stage: type[Stage], task: Task, *, alone: bool) -> Future[UnitRecord]:
        """Hand out a task; only where there is room.

        Args:
            stage: of the unit.
            task: the unit.
            alone: whether no other is made at the same time, so that it may use a whole machine.

        Returns:
            Future of how it went, which raises one of `lost` where the worker died.
        """

    @abstractmethod
    def listen(self, running: Collection[Future[UnitRecord]], seconds: float) -> list[UnitProgress]:
        """Wait until a unit ended, or for some seconds.

        Args:
            running: futures that have not been seen to end.
            seconds: the longest wait.

        Returns:
            What the workers said since the last call, in order.

        Raises:
            ConfigError: no worker can begin.
        """

    @abstractmethod
    def close(self, *, wait: bool = False) -> None:
        """End the workers; new ones are made when they are needed.

        Args:
            wait: until they have ended, which a process that ends itself should where all is done;
                it is not for workers that may be busy.
        """
