"""Export of labelled point clouds of a finished run, in one or several formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcdistill.artifacts import RunArtifacts, stored_scenes
from pcdistill.atomic_io import make_folder
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import ConfigError
from pcdistill.inference.class_instances import class_instances
from pcdistill.inference.confidence import label_confidence
from pcdistill.inference.pieces import ScenePieces
from pcdistill.inference.predictor import ScenePredictor
from pcdistill.pipeline import slug
from pcdistill.scenes import (
    LabelledCloud,
    get_export_format,
    open_stored_scene,
    write_benchmark_zip,
    write_class_names,
)
from pcdistill.version import __version__


def export_labelled_clouds(
    artifacts: RunArtifacts,
    predictor: ScenePredictor,
    method: str,
    folder: Path | None = None,
    *,
    formats: Sequence[str] = ("ply",),
    zipped: bool = False,
    report: ProgressCallback = lambda done, total, words: None,
) -> list[Path]:
    """Write the points of every scene with class, confidence and instance of each.

    Points are where the scan's own files have them, in the same order; those that the reader left
    out (`dropped_points` of the provenance) are missing. Formats that cannot hold such coordinates
    say in their module what they hold instead.

    The class is an integer, so that any number of classes fits. Where a method has no answer, as
    2D features have none for points that no frame saw, it is the label set's own number for none
    (`LabelSet.ignore_label`: 255 in those of the benchmarks, whose tools expect it), which is the
    last line of `classes.txt`. One scene is in memory at a time, and each file is written whole or
    not at all.

    Args:
        artifacts: of a finished run.
        predictor: of the same.
        method: whose labels, a name of the results table.
        folder: where to; `export/` of the workspace by default.
        formats: names of `EXPORT_FORMATS`.
        zipped: pack the files of format scannet as the benchmark takes them.
        report: told how many scenes are written.

    Returns:
        The files written. `classes.txt` beside them names the classes in order.

    Raises:
        ConfigError: the folder is a file or cannot be made, a format is unknown or cannot hold the
            label set, or there is nothing to pack.
        MissingExtraError: a format needs a package that is not installed.
        SceneError: a scene cannot be written in a format.
        ArtifactError: the run is not finished.
    """
    workspace, label_set = artifacts.workspace, artifacts.words.label_set
    chosen = {name: get_export_format(name) for name in formats}
    if zipped and "scannet" not in chosen:
        raise ConfigError(
            f"--zip packs the files of format scannet, got {', '.join(chosen)}; add "
            "--format scannet"
        )
    for one in chosen.values():
        one.require(label_set)
    target = folder or workspace.root / "export"
    make_folder(target, "--to")
    files: dict[str, list[Path]] = {name: [] for name in chosen}
    scenes = stored_scenes(workspace, artifacts.scenes.all)
    for number, scene in enumerate(scenes):
        cloud = _labelled_cloud(artifacts, predictor, method, scene)
        for name, one in chosen.items():
            path = target / one.folder / f"{slug(scene)}{one.suffix}"
            one.write(path, cloud)
            files[name].append(path)
        report(number + 1, len(scenes), "scenes")
    written = [path for scene_files in zip(*files.values(), strict=True) for path in scene_files]
    if zipped:
        packed = target / "scannet.zip"
        write_benchmark_zip(packed, files["scannet"])
        written.append(packed)
    names = target / "classes.txt"
    write_class_names(names, label_set)
    return [*written, names]


def _labelled_cloud(
    artifacts: RunArtifacts, predictor: ScenePredictor, method: str, name: str
) -> LabelledCloud:
    """What a method says of a scene; nothing of it is kept."""
    words = artifacts.words
    scene = open_stored_scene(artifacts.workspace.scene(name))
    features, seen = predictor.features(method, name)
    labels = words.classify(features, seen)
    superpoints = ScenePieces(artifacts, predictor).cut(scene)
    return LabelledCloud(
        scene,
        words.label_set,
        labels,
        label_confidence(features, labels, words.label_embeddings, words.label_set),
        class_instances(scene.points, superpoints, labels),
        _provenance(artifacts, method, name),
    )


def _provenance(artifacts: RunArtifacts, method: str, scene: str) -> dict[str, Any]:
    """Version, run, method, text encoder, and the teachers' weights with revision and license."""
    run = artifacts
    found: dict[str, Any] = {
        "version": __version__,
        "run": run.title,
        "method": method,
        "text_space": run.words.text_encoder.text_space,
    }
    about_words = getattr(run.words.text_encoder, "provenance", {})
    if about_words:
        found["text_encoder"] = dict(about_words)
    found["teachers"] = [
        {"name": teacher, **run.point_features.provenance(teacher, scene)}
        for teacher in run.teachers
        if run.workspace.point_features(teacher, scene).is_file()
    ]
    return found
