"""Scenes as stage ingest stores them, with labels of the run's label set."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from pcdistill.errors import ArtifactError, SceneError
from pcdistill.pipeline import Workspace
from pcdistill.scenes import LabelSet, Scene

_LOG = logging.getLogger(__name__)


def stored_scenes(workspace: Workspace, names: Sequence[str]) -> tuple[str, ...]:
    """Select those of `names` that are in the workspace; the others are named in the log.

    Raises:
        ArtifactError: there is none.
    """
    stored = tuple(name for name in names if workspace.scene(name).is_dir())
    if not stored:
        raise ArtifactError(
            f"{workspace.root}: none of the {len(names)} scenes is there yet; finish the run "
            "with pcdistill run"
        )
    if len(stored) < len(names):
        missing = [name for name in names if name not in stored]
        _LOG.warning("left out, because they could not be read: %s", ", ".join(missing))
    return stored


def labels_in_memory(label_set: LabelSet, scene: Scene, labels: Tensor) -> Tensor:
    """Replace a label set's own number for none by `IGNORE_LABEL`.

    Args:
        label_set: evaluation classes of the run.
        scene: whose labels they are.
        labels: (N,) int64, as its files have them.

    Returns:
        (N,) int64.

    Raises:
        SceneError: they are not those of the run's label set.
    """
    if scene.label_set not in (None, label_set.name):
        raise SceneError(
            f"scene {scene.name}: labelled with '{scene.label_set}' but run.label_set is "
            f"'{label_set.name}'; set run.label_set to the scene's"
        )
    return label_set.labels_from_files(f"scene {scene.name}", labels)
