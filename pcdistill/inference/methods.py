"""Methods of the results table: their names, what each needs, and which one answers."""

from __future__ import annotations

from typing import NamedTuple

from pcdistill.errors import ConfigError
from pcdistill.pipeline import Dependency, Task, Workspace, best_measured, read_json
from pcdistill.suggest import suggest

POOLED = "fused+superpoints"
"""The fused features averaged over each superpoint: what the students learn from."""
VOXELS = "fused+voxels"
"""The fused features averaged over the voxels and cuts that a student's answer is read from."""
BINARY, SHUFFLED = "binary", "shuffled"
"""Fusion by a capability that knows less: who finds which class at all; the right strengths in the
wrong places."""
ORACLE = "oracle"
"""Fusion by the teachers' true IoU on the measured scenes: what perfect knowledge would give."""
ENSEMBLE = "fused+student"
"""Kind of `fused+student:NAME`, OpenScene's 2D-3D ensemble: of each point the fused feature or the
student's, whichever is more similar to a class."""
COMBINED = ("average", "linear", BINARY, SHUFFLED, "fused", ORACLE, VOXELS, POOLED)
FUSED = (BINARY, SHUFFLED, "fused", ORACLE, VOXELS, POOLED)
"""Those that weigh the teachers by a capability."""
_OF_ONE_TEACHER = ("fused", VOXELS, POOLED)
"""A single teacher has the whole weight whatever is known of it."""
_FOR_THE_TABLE = (BINARY, SHUFFLED, ORACLE)
"""What others are compared with; they answer nothing unless they are named."""
CAPABILITY = "capability"
"""No method, but a unit of stage evaluate: how far measured and true capability agree."""


class MethodTable(NamedTuple):
    """The methods of a run, by the names of its teachers and students."""

    teachers: tuple[str, ...]
    students: tuple[str, ...]
    measures_ensembles: bool = False
    """Whether the ensembles are rows of the table; they can be named in any case."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every row of the table: teachers, their combinations, students, their ensembles."""
        teachers = tuple(f"teacher:{name}" for name in self.teachers)
        students = tuple(f"student:{name}" for name in self.students)
        combined = COMBINED if len(teachers) > 1 else _OF_ONE_TEACHER if teachers else ()
        measured = self.ensembles if self.measures_ensembles else ()
        return (*teachers, *combined, *students, *measured)

    @property
    def ensembles(self) -> tuple[str, ...]:
        """The 2D-3D ensemble of every student; none where no teacher has seen anything."""
        return tuple(f"{ENSEMBLE}:{name}" for name in self.students) if self.teachers else ()

    @property
    def known(self) -> tuple[str, ...]:
        """Every method that can be asked: the rows of the table, and the ensembles."""
        return tuple(dict.fromkeys((*self.names, *self.ensembles)))

    @property
    def answering(self) -> tuple[str, ...]:
        """The methods of which the best one answers: all but baselines and the oracle."""
        return tuple(name for name in self.names if name not in _FOR_THE_TABLE)

    def dependencies(
        self, method: str, scenes: tuple[str, ...], validation: tuple[str, ...]
    ) -> tuple[Dependency, ...]:
        """List what has to be there before a method can predict; failed scenes are left out.

        Args:
            method: one of `known`, or `CAPABILITY`.
            scenes: that it predicts.
            validation: all measured scenes, which tell the oracle what is true.
        """
        name = method.partition(":")[2]
        if method == ORACLE:
            scenes = tuple(dict.fromkeys((*scenes, *validation)))
        always = tuple(
            Dependency(stage, unit, required=False)
            for scene in scenes
            for stage, unit in [
                *(("lift", f"{teacher}/{scene}") for teacher in self.teachers),
                ("partition", scene),
            ]
        )
        student = (Dependency("distill", name),) if looks_in_voxels(method) and name else ()
        scores = tuple(Dependency("score", teacher) for teacher in self.teachers)
        weighs = weighs_by_capability(method) or method == CAPABILITY
        return (*always, *(scores if weighs else ()), *student)

    def ready_scenes(self, task: Task, scenes: tuple[str, ...]) -> tuple[str, ...]:
        """Select those of `scenes` that every teacher has seen and that are partitioned."""
        lifted, cut = set(task.units_of("lift")), set(task.units_of("partition"))
        return tuple(
            scene
            for scene in scenes
            if scene in cut and all(f"{teacher}/{scene}" in lifted for teacher in self.teachers)
        )

    def default(self, workspace: Workspace) -> str:
        """Name the method that answers, gives labels and is drawn, unless another is asked for.

        It is the best measured one, baselines and the oracle aside. Where nothing was measured
        (scans without labels) it is the student that learned from superpoints, which knows every
        point, or else the last one configured. A student of teachers that name few things has to
        take all else for one of these; then it is what they say, averaged over superpoints.
        """
        best = best_measured(workspace, self.answering)
        if best is None and self._are_selective(workspace):
            return POOLED
        fallback = "superpoint" if "superpoint" in self.students else self.students[-1]
        return best if best is not None else f"student:{fallback}"

    def _are_selective(self, workspace: Workspace) -> bool:
        """Whether all teachers, of which there are some, name few things and are else silent."""
        files = [workspace.capability(name) for name in self.teachers]
        return bool(files) and all(
            file.is_file() and bool(read_json(file).get("selective")) for file in files
        )

    def best_student(self, workspace: Workspace) -> str:
        """Name the best measured student; `default` where nothing was measured."""
        students = [f"student:{name}" for name in self.students]
        return best_measured(workspace, students) or self.default(workspace)

    def require(self, method: str | None, workspace: Workspace) -> str:
        """Return the method that was asked for, or the default.

        Raises:
            ConfigError: there is no such method.
        """
        if method is not None and method not in self.known:
            raise ConfigError(f"unknown method '{method}'; {suggest(method, self.known)}")
        return method or self.default(workspace)


def weighs_by_capability(method: str) -> bool:
    """Whether a method weighs the teachers by a capability."""
    return method in FUSED or method.startswith(f"{ENSEMBLE}:")


def looks_in_voxels(method: str) -> bool:
    """Whether a method cuts the scene into the voxels of a student under every protocol."""
    return method == VOXELS or method.startswith(("student:", f"{ENSEMBLE}:"))
