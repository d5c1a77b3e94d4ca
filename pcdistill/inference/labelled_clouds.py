"""Export of labelled point clouds (PLY) of a finished run."""

from __future__ import annotations

from pathlib import Path

from pcdistill.artifacts import RunArtifacts, stored_scenes
from pcdistill.atomic_io import make_folder
from pcdistill.inference.predictor import ScenePredictor
from pcdistill.pipeline import slug
from pcdistill.scenes import open_scene, write_class_names, write_source_ply


def export_labelled_clouds(
    artifacts: RunArtifacts, predictor: ScenePredictor, method: str, folder: Path | None = None
) -> list[Path]:
    """Write `<scene>.ply` with points, class colours and the class index of every point.

    Points are where the scan's own files have them, in the same order; those that the reader left
    out (`dropped_points` of the provenance) are missing.

    The class index is an `int` property of the file, so that any number of classes fits. Where a
    method has no answer, as 2D features have none for points that no frame saw, it is the label
    set's own number for none (`LabelSet.ignore_label`: 255 in those of the benchmarks, whose tools
    expect it), which is the last line of `classes.txt`.

    Args:
        artifacts: of a finished run.
        predictor: of the same.
        method: whose labels, a name of the results table.
        folder: where to; `export/` of the workspace by default.

    Returns:
        The files written. `classes.txt` beside them names the classes in order.

    Raises:
        ConfigError: the folder is a file or cannot be made.
        ArtifactError: the run is not finished.
    """
    workspace, label_set = artifacts.workspace, artifacts.words.label_set
    target = folder or workspace.root / "export"
    make_folder(target, "--to")
    files = []
    for name in stored_scenes(workspace, artifacts.scenes.all):
        scene = open_scene(workspace.scene(name))
        labels = label_set.labels_for_files(predictor.labels(method, name))
        path = target / f"{slug(name)}.ply"
        colors = label_set.colors_of(labels)
        write_source_ply(path, scene, colors=colors, labels=labels)
        files.append(path)
    names = target / "classes.txt"
    write_class_names(names, label_set)
    return [*files, names]
