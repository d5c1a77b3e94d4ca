"""Table of the export formats, by the names that the command line takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pcdistill.scenes.exports.glb import require_trimesh, write_labelled_glb
from pcdistill.scenes.exports.labelled_cloud import LabelledCloud
from pcdistill.scenes.exports.las import require_laspy, require_laz, write_labelled_las
from pcdistill.scenes.exports.npz import write_labelled_npz
from pcdistill.scenes.exports.ply import write_labelled_ply
from pcdistill.scenes.exports.rrd import require_rerun, write_labelled_rrd
from pcdistill.scenes.exports.scannet import require_ids, write_benchmark_text
from pcdistill.scenes.label_sets import LabelSet
from pcdistill.suggest import look_up


class ExportFormat(NamedTuple):
    """How the scenes of a run are written in one format."""

    suffix: str
    write: Callable[[Path, LabelledCloud], None]
    """Writes one scene, whole or not at all."""
    require: Callable[[LabelSet], None] = lambda label_set: None
    """Raises a ConfigError or MissingExtraError where no scene can be written."""
    folder: str = ""
    """Folder of the files below that of the export; beside the others where it is empty."""


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "ply": ExportFormat(".ply", write_labelled_ply),
    "las": ExportFormat(".las", write_labelled_las, require_laspy),
    "laz": ExportFormat(".laz", write_labelled_las, require_laz),
    "npz": ExportFormat(".npz", write_labelled_npz),
    "glb": ExportFormat(".glb", write_labelled_glb, require_trimesh),
    "rrd": ExportFormat(".rrd", write_labelled_rrd, require_rerun),
    "scannet": ExportFormat(".txt", write_benchmark_text, require_ids, folder="scannet"),
}
"""By the name that `--format` takes."""


def get_export_format(name: str) -> ExportFormat:
    """Give the format of a name.

    Raises:
        ConfigError: there is none.
    """
    return look_up("export format", name, EXPORT_FORMATS)
