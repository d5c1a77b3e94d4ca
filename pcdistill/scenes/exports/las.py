"""Labelled clouds as LAS and LAZ 1.4, point format 7, with class names in the lookup record.

Source: ASPRS LAS 1.4 R15, 2.4 (classification lookup), 2.5 (extended records), Tab. 17 (codes).
"""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pcdistill.atomic_io import atomic_file
from pcdistill.scenes.exports.labelled_cloud import LabelledCloud, as_shorts, ascii_json
from pcdistill.scenes.formats.extras import import_extra
from pcdistill.scenes.label_sets import LabelSet

FIRST_CODE = 64
"""Classification of label 0: the first code that the standard leaves to its users."""
LAST_CODE = 255
"""Where there are more classes than codes: that of all that have none of their own."""
UNCLASSIFIED = 1
"""Classification of points without an answer, as the standard has it."""
BEYOND = "see label"
"""What the lookup record says of `LAST_CODE` where it stands for several classes."""

_SCALE = 1e-4  # units of the file: 0.1 mm where these are metres
_MAX_STEPS = 2**31 - 2
_NAME_BYTES = 15  # of the lookup record
_LOOKUP_ENTRIES = 256
_OTHERWISE = "export the labels as ply or npz"


def require_laspy(label_set: LabelSet) -> None:
    """Refuse to begin without the package that writes the files.

    Raises:
        MissingExtraError: it is not installed.
    """
    del label_set  # any number of classes fits
    import_extra("--format las", "laspy", "las", _OTHERWISE)


def require_laz(label_set: LabelSet) -> None:
    """Refuse to begin without the packages that write and compress the files.

    Raises:
        MissingExtraError: one is not installed.
    """
    require_laspy(label_set)
    import_extra("--format laz", "lazrs", "las", "export las without compression")


def write_labelled_las(path: Path, cloud: LabelledCloud) -> None:
    """Write a LAS file, or LAZ by the suffix of its name.

    Coordinates are those of the scan's own files, to half of 0.1 mm (of 1e-4 of their unit, or as
    fine as 32 bits hold scenes of more than 200 km). Colours are the scan's own, 16 bits, or those
    of the classes where it has none. Extra bytes ``label`` (int32), ``confidence`` (float32) and
    ``instance`` (int32) hold what is known of each point exactly.

    The classification is 64 + label, because the codes below mean ground, noise and the like, and 1
    where there is no answer. Of more than 192 classes those from the 192nd on share the code 255.
    The lookup record names the codes in 15 bytes of ASCII; the names in full, and the provenance,
    are JSON in an extended record of user ``pcdistill``.

    Raises:
        MissingExtraError: there is no package that writes it.
    """
    laspy = import_extra(path, "laspy", "las", _OTHERWISE)
    coordinates = cloud.coordinates.numpy()
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    header = laspy.LasHeader(point_format=7, version="1.4")
    header.global_encoding.wkt = True  # the standard's only choice for this point format
    header.offsets = np.floor(low)
    header.scales = np.full(3, _scale(float((high - np.floor(low)).max())))
    header.generating_software = f"pcdistill {cloud.provenance.get('version', '')}"[:32].strip()
    header.add_extra_dims(
        [
            laspy.ExtraBytesParams("label", "int32", "class, see record pcdistill"),
            laspy.ExtraBytesParams("confidence", "float32", "of the class, 0 to 1"),
            laspy.ExtraBytesParams("instance", "int32", "place of one class"),
        ]
    )
    header.vlrs.append(_lookup_record(laspy, cloud.label_set))
    las = laspy.LasData(header)
    las.points = laspy.ScaleAwarePointRecord.zeros(len(coordinates), header=header)
    steps = np.rint((coordinates - header.offsets) / header.scales).astype(np.int32)
    las.X, las.Y, las.Z = steps.T
    las.red, las.green, las.blue = as_shorts(cloud.shown_colors).numpy().astype(np.uint16).T
    las.classification = classification_codes(cloud.answers.numpy())
    las.label = cloud.labels.numpy().astype(np.int32)
    las.confidence = cloud.confidence.numpy()
    las.instance = cloud.instances.numpy()
    told = ascii_json({**cloud.facts(), "classes": cloud.label_set.names}).encode("ascii")
    las.evlrs = laspy.vlrs.vlrlist.VLRList()
    las.evlrs.append(laspy.VLR("pcdistill", 1, "names and provenance", told))
    with atomic_file(path) as temporary, temporary.open("wb+") as stream:
        las.write(stream, do_compress=path.suffix.lower() == ".laz")


def classification_codes(answers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(N,) uint8 classification of each point, of (N,) classes; negative for no answer."""
    codes = np.minimum(answers + FIRST_CODE, LAST_CODE)
    return np.where(answers < 0, UNCLASSIFIED, codes).astype(np.uint8)


def _lookup_record(laspy: Any, label_set: LabelSet) -> Any:
    record = laspy.vlrs.known.ClassificationLookupVlr()
    for code in range(_LOOKUP_ENTRIES):  # the standard's record has all of them
        record[code] = ""
    record[UNCLASSIFIED] = "no answer"
    codes = classification_codes(np.arange(len(label_set.names)))
    for code, name in zip(codes.tolist(), label_set.names, strict=True):
        record[code] = BEYOND if record[code] else _short_name(name)
    return record


def _short_name(name: str) -> str:
    """Name in at most 15 printable ASCII characters, at least one."""
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", name)
        if not unicodedata.combining(letter)
    )
    known = "".join(letter if " " <= letter <= "~" else "?" for letter in plain)
    return known[:_NAME_BYTES].strip() or "?"


def _scale(extent: float) -> float:
    """Units of the file per step: as fine as 32 bits hold the extent, at most 1e-4."""
    needed = extent / _MAX_STEPS
    return _SCALE if needed <= _SCALE else 10.0 ** math.ceil(math.log10(needed))
