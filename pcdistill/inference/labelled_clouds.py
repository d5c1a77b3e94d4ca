"""Writes a finished run's answer for every scene as a labelled PLY."""

from __future__ import annotations

from pathlib import Path

from pcdistill.artifacts import scene_names, stored_scenes
from pcdistill.atomic_io import make_folder
from pcdistill.inference.methods import predict_scene_labels, require_method
from pcdistill.pipeline import RunContext, slug
from pcdistill.scenes import open_scene, write_source_ply


def export_labelled_clouds(
    run: RunContext, folder: Path | None = None, method: str | None = None
) -> list[Path]:
    """Write `<scene>.ply` with points, class colours and the class index of every point.

    Points are where the scan's own files have them, in the same order; those that the reader left
    out (`dropped_points` of the provenance) are missing.

    The class index is an `int` property of the file, so that any number of classes fits. Where a
    row has no answer, as 2D features have none for points that no frame saw, it is the label set's
    own number for none (`LabelSet.ignore_label`: 255 in those of the benchmarks, whose tools expect
    it), which is the last line of `classes.txt`.

    Args:
        run: context of the run.
        folder: where to; `export/` of the workspace by default.
        method: whose labels, a name of the results table; by default the best measured row.

    Returns:
        The files written. `classes.txt` beside them names the classes in order.

    Raises:
        ConfigError: the row is unknown, or the folder is a file or cannot be made.
        ArtifactError: the run is not finished.
    """
    method = require_method(run, method)
    target = folder or run.workspace.root / "export"
    make_folder(target, "--to")
    files = []
    for name in stored_scenes(run, scene_names(run)):
        scene = open_scene(run.workspace.scene(name))
        labels = run.label_set.labels_for_files(predict_scene_labels(run, method, name))
        path = target / f"{slug(name)}.ply"
        colors = run.label_set.colors_of(labels)
        write_source_ply(path, scene, colors=colors, labels=labels)
        files.append(path)
    names = target / "classes.txt"
    known = {**dict(enumerate(run.label_set.names)), run.label_set.ignore_label: "no answer"}
    names.write_text("".join(f"{number} {name}\n" for number, name in known.items()))
    return [*files, names]
