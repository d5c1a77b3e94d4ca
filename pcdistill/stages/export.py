"""Writes a finished run's answer for every scene as a labelled PLY."""

from __future__ import annotations

from pathlib import Path

import torch

from pcdistill.scenes import IGNORE_LABEL, open_scene, write_source_ply
from pcdistill.stages.ingest import scene_names, stored_scenes
from pcdistill.stages.rows import NOT_SEEN, require_row, row_predictions
from pcdistill.stages.run import Run
from pcdistill.stages.workspace import slug


def export(run: Run, folder: Path | None = None, row: str | None = None) -> list[Path]:
    """Write `<scene>.ply` with points, class colours and the class index of every point.

    Points are where the scan's own files have them, in the same order; those that the reader left
    out (`dropped_points` of the provenance) are missing.

    Where a row has no answer, as 2D features have none for points that no frame saw, the label is
    `IGNORE_LABEL`.

    Args:
        folder: where to; `export/` of the workspace by default.
        row: whose labels, a name of the results table; by default the best measured row.

    Returns:
        The files written. `classes.txt` beside them names the classes in order.

    Raises:
        ConfigError: the row is unknown.
        ArtifactError: the run is not finished.
    """
    row = require_row(run, row)
    target = folder or run.workspace.root / "export"
    target.mkdir(parents=True, exist_ok=True)
    files = []
    for name in stored_scenes(run, scene_names(run)):
        scene = open_scene(run.workspace.scene(name))
        labels = row_predictions(run, row, name)
        labels = torch.where(labels == NOT_SEEN, IGNORE_LABEL, labels)
        path = target / f"{slug(name)}.ply"
        colors = run.label_set.colors_of(labels)
        write_source_ply(path, scene, colors=colors, scalars={"label": labels})
        files.append(path)
    names = target / "classes.txt"
    known = {**dict(enumerate(run.label_set.names)), IGNORE_LABEL: "no answer"}
    names.write_text("".join(f"{number} {name}\n" for number, name in known.items()))
    return [*files, names]
