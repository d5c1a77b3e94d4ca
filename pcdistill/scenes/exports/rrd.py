"""Labelled clouds as recordings of the viewer rerun."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcdistill.atomic_io import atomic_file
from pcdistill.errors import ConfigError
from pcdistill.scenes.exports.labelled_cloud import NO_ANSWER, LabelledCloud, ascii_json
from pcdistill.scenes.formats.extras import import_extra
from pcdistill.scenes.label_sets import LabelSet

_OTHERWISE = "export the labels as ply"
_MAX_ID = 65535  # of a class, 16 bits


def require_rerun(label_set: LabelSet) -> None:
    """Refuse to begin without the package that writes the files, or with too many classes.

    Raises:
        MissingExtraError: it is not installed.
        ConfigError: there are more classes than its ids.
    """
    if len(label_set.names) > _MAX_ID:
        raise ConfigError(
            f"--format rrd: the label set {label_set.name} has {len(label_set.names)} classes, "
            f"expected at most {_MAX_ID}; {_OTHERWISE}"
        )
    import_extra("--format rrd", "rerun", "rerun", _OTHERWISE)


def write_labelled_rrd(path: Path, cloud: LabelledCloud) -> None:
    """Write a recording with two point clouds, ``world/classes`` and ``world/colors``.

    Points are metres in the scene's own frame, near the origin, z up (the viewer has 32 bits).
    ``world`` has the names and colours of the classes, by which points are shown, K for no answer,
    and ``provenance`` as JSON. Points of ``world/classes`` have ``confidence`` and ``instance``.
    ``world/colors`` is left out where the scan has no colours. Nothing changes with time.

    Raises:
        MissingExtraError: there is no package that writes it.
    """
    rerun = import_extra(path, "rerun", "rerun", _OTHERWISE)
    label_set, scene = cloud.label_set, cloud.scene
    classes = len(label_set.names)
    shown = [*zip(label_set.names, label_set.palette.tolist(), strict=True), (NO_ANSWER, [0, 0, 0])]
    points = scene.points.numpy()
    ids = np.where(cloud.answers < 0, classes, cloud.answers).astype(np.uint16)
    with atomic_file(path) as temporary:
        recording = rerun.RecordingStream("pcdistill", recording_id=scene.name)
        recording.save(temporary)
        recording.log(
            "world",
            rerun.ViewCoordinates.RIGHT_HAND_Z_UP,
            rerun.AnnotationContext(
                [
                    rerun.AnnotationInfo(id=number, label=name, color=color)
                    for number, (name, color) in enumerate(shown)
                ]
            ),
            rerun.AnyValues(provenance=ascii_json(cloud.facts())),
            static=True,
        )
        recording.log(
            "world/classes",
            rerun.Points3D(points, class_ids=ids),
            rerun.AnyValues(confidence=cloud.confidence.numpy(), instance=cloud.instances.numpy()),
            static=True,
        )
        if scene.colors is not None:
            recording.log(
                "world/colors", rerun.Points3D(points, colors=scene.colors.numpy()), static=True
            )
        recording.disconnect()
