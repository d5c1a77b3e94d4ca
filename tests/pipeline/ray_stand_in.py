"""A stand-in for the package ray and its cluster: actors are objects, and end or stop as told."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, NamedTuple

from pcdistill.pipeline.ray_actor import Greeting, Heard, own_versions
from pcdistill.pipeline.ray_cluster import Machine
from pcdistill.pipeline.workspace import UnitRecord

CPUS = 2.0


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Reference:
    """An answer that is there, raises, or never comes."""

    def __init__(self, answer: Any = None, *, never: bool = False) -> None:
        self.answer = answer
        self.never = never


class Call(NamedTuple):
    """Like a method of an actor's handle."""

    answer: Any

    def remote(self, *arguments: Any) -> Reference:
        found = self.answer(*arguments)
        return found if isinstance(found, Reference) else Reference(found)


class Actor:
    """One actor; what it does with a unit stands in `plan`."""

    def __init__(self, ray: RayStandIn, number: int) -> None:
        self.ray, self.number = ray, number
        self.node = ray.nodes[number % len(ray.nodes)]
        self.killed = False
        self.units: list[str] = []
        self.threads: list[int] = []
        self.greet = Call(self._greet)
        self.work = Call(self._work)
        self.listen = Call(self._listen)

    def _greet(self, token: Any) -> Any:
        return self.ray.greetings.get(self.node, self.ray.greeting(self.node))

    def _work(self, stage: Any, task: Any, threads: int, seconds: float) -> Any:
        self.units.append(task.unit)
        self.threads.append(threads)
        todo = self.ray.plan.get(task.unit, [])
        what = todo.pop(0) if todo else "done"
        if what == "never":
            return Reference(never=True)
        if what == "machine":
            self.ray.lost.add(self.node)
            return Reference(never=True)
        if isinstance(what, Exception):
            return Reference(what)
        if isinstance(what, Heard):
            return what
        return Heard(outcome=UnitRecord("", "done", f"made {task.unit}", 0.0, {}, {}))

    def _listen(self, seconds: float) -> Any:
        return Reference(RayError("it ended")) if self.number in self.ray.ended else Heard()


class RayStandIn:
    """What of ray is used, and of a `RayCluster`."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, *nodes: str) -> None:
        self.nodes = nodes or ("one",)
        self.plan: dict[str, list[Any]] = {}
        """By unit, what happens at each try."""
        self.greetings: dict[str, Any] = {}
        self.lost: set[str] = set()
        self.ended: set[int] = set()
        self.actors: list[Actor] = []
        self.options_of_actors: dict[str, Any] = {}
        self.closed = False
        self.gpus = 0.0
        self.ray = self

    def greeting(self, node: str, **changes: Any) -> Greeting:
        usual = Greeting(f"host-{node}", node, *own_versions(), 8, True, True)
        return usual._replace(**changes)

    def remote(self, kind: type) -> Any:
        def options(**given: Any) -> Any:
            self.options_of_actors = given

            def make(*arguments: Any, **others: Any) -> Actor:
                self.actors.append(Actor(self, len(self.actors)))
                return self.actors[-1]

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def wait(self, references: list, *, num_returns: int, timeout: float) -> tuple[list, list]:
        ready = [one for one in references if not one.never]
        if not ready:
            time.sleep(min(timeout, 0.02))
        return ready, [one for one in references if one.never]

    def get(self, reference: Reference) -> Any:
        if isinstance(reference.answer, Exception):
            raise reference.answer
        return reference.answer

    def kill(self, actor: Actor) -> None:
        actor.killed = True

    def machines(self) -> list[Machine]:
        living = [node for node in self.nodes if node not in self.lost]
        return [Machine(node, f"host-{node}", CPUS, self.gpus) for node in living]

    def is_alive(self, node: str) -> bool:
        return node not in self.lost

    def close(self) -> None:
        self.closed = True
