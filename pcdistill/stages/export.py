"""Writes a finished run's answer for every scene as a labelled PLY."""

from __future__ import annotations

from pathlib import Path

from pcdistill.scenes import open_scene, write_ply
from pcdistill.stages.ingest import scene_names, stored_scenes
from pcdistill.stages.rows import require_row, row_predictions
from pcdistill.stages.run import Run
from pcdistill.stages.workspace import slug


def export(run: Run, folder: Path | None = None, row: str | None = None) -> list[Path]:
    """Write `<scene>.ply` with points, class colours and the class index of every point.

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
        path = target / f"{slug(name)}.ply"
        colors = run.label_set.colors_of(labels)
        write_ply(
            path, points=scene.points, colors=colors, scalars={"label": labels}, faces=scene.faces
        )
        files.append(path)
    names = target / "classes.txt"
    names.write_text("".join(f"{i} {n}\n" for i, n in enumerate(run.label_set.names)))
    return [*files, names]
