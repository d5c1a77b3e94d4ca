"""Scenes as stage ingest stores them, with labels of the run's label set."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from pcdistill.errors import ArtifactError, SceneError
from pcdistill.pipeline import RunContext
from pcdistill.scenes import Scene, open_scene

_LOG = logging.getLogger(__name__)


def stored_scenes(run: RunContext, names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` that are in the workspace; the others are named in the log.

    Raises:
        ArtifactError: there is none.
    """
    stored = tuple(name for name in names if run.workspace.scene(name).is_dir())
    if not stored:
        raise ArtifactError(
            f"{run.workspace.root}: none of the {len(names)} scenes is there yet; finish the run "
            "with pcdistill run"
        )
    if len(stored) < len(names):
        missing = [name for name in names if name not in stored]
        _LOG.warning("left out, because they could not be read: %s", ", ".join(missing))
    return stored


def labels_in_memory(run: RunContext, scene: Scene, labels: Tensor) -> Tensor:
    """Labels (N,) int64 of a scene with `IGNORE_LABEL` where it has the label set's own for none.

    Raises:
        SceneError: they are not those of the run's label set.
    """
    if scene.label_set not in (None, run.label_set.name):
        raise SceneError(
            f"scene {scene.name}: labelled with '{scene.label_set}' but run.label_set is "
            f"'{run.label_set.name}'; set run.label_set to the scene's"
        )
    return run.label_set.labels_from_files(f"scene {scene.name}", labels)


def load_scene(run: RunContext, name: str) -> Scene:
    """Open a stored scene of the run once."""
    key = f"scene/{name}"
    if key not in run.memory:
        run.memory[key] = open_scene(run.workspace.scene(name))
    found: Scene = run.memory[key]
    return found
