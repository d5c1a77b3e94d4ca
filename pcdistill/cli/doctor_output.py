"""Output of `doctor`: doctor.json, pictures from the scan's own cameras, a table of findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from pcdistill.atomic_io import make_folder
from pcdistill.doctor import Diagnosis, FrameSample, SceneSample, examine
from pcdistill.errors import ConfigError, SceneError
from pcdistill.geometry import invert_pose, project_to_pixels
from pcdistill.pipeline import parse_yaml, slug, write_json
from pcdistill.visualization import colorize_scores, overlay_points, save_png

_PICTURES = 4
_MAX_POINTS = 150_000
_CLOSE = 0.05  # of the measured depth; the doctor's tolerance
_FITS, _BEFORE, _BEHIND = (60, 190, 90), (225, 60, 50), (70, 110, 230)
_EDGE = (255, 40, 160)
_STRIP = 22  # pixels above each picture, for its title


class DoctorOutput(NamedTuple):
    """The diagnosis, and the files that were written."""

    diagnosis: Diagnosis
    files: tuple[Path, ...]


def examine_scan(
    scan: Path, out: Path | None = None, part: str = "", settings: tuple[str, ...] = ()
) -> DoctorOutput:
    """Examine a scan; write doctor.json and overlays.

    Args:
        scan: folder or file of the scan.
        out: folder to write to; by default `doctor-<scan>` in the current one.
        part: which of several scans.
        settings: "key=value", how to read it, as in the section `ingest` of a run.

    Raises:
        ConfigError: a setting is unknown or has no possible value, or `out` is no folder.
        SceneError: there is no scan, or it must be said which.
    """
    examination = examine(scan, part, **_parsed(settings))
    diagnosis = examination.diagnosis
    folder = out if out is not None else Path(f"doctor-{slug(diagnosis.scan)}")
    make_folder(folder, "--out")
    files = []
    if examination.capture is not None and examination.corrected is not None:
        files = _draw(examination.capture, examination.corrected, folder)
    path = folder / "doctor.json"
    pictures = {"pictures": [file.name for file in files]}
    write_json(path, diagnosis.to_json() | pictures)
    return DoctorOutput(diagnosis, (*files, path))


def print_report(console: Console, report: DoctorOutput) -> None:
    """Print the findings as a table, and whether lifting will work."""
    diagnosis = report.diagnosis
    looked = diagnosis.looked_at
    console.print(
        f"{diagnosis.scan}: {looked.get('points', 0)} points, {looked.get('frames', 0)} frames",
        markup=False,
    )
    if diagnosis.findings:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
        table.add_column("certainty", no_wrap=True)
        table.add_column("finding", overflow="fold")
        table.add_column("what mends it", overflow="fold")
        for finding in diagnosis.findings:
            about = f"{finding.code}: {finding.message} [{finding.evidence}]"
            fix = finding.fix + ("" if finding.lifting_works else " (lifting fails until then)")
            table.add_row(Text(finding.certainty), Text(about), Text(fix))
        console.print(table)
    else:
        console.print("nothing is wrong with it as far as can be seen")
    console.print(
        "lifting will work" if diagnosis.lifting_works else "lifting will not work as it is"
    )
    for path in report.files:
        console.print(str(path), markup=False)


def _parsed(settings: tuple[str, ...]) -> dict[str, Any]:
    parsed = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"'{setting}' is no setting, expected KEY=VALUE such as up_axis=y")
        key = key.removeprefix("ingest.")
        try:
            value = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(f"'{setting}' cannot be read, expected KEY=VALUE") from error
        if key == "depth_scale" and isinstance(value, int):
            value = float(value)
        parsed[key] = tuple(value) if isinstance(value, list) else value
    return parsed


def _draw(capture: SceneSample, corrected: SceneSample, folder: Path) -> list[Path]:
    """Draw one picture for some of the frames.

    Args:
        capture: the scan as it is read.
        corrected: the scan as it is probably meant; a second row unless it is `capture`.
        folder: where the pictures are written.

    Returns:
        the files.
    """
    count = len(capture.sights)
    chosen = sorted({round((i + 0.5) * count / _PICTURES - 0.5) for i in range(_PICTURES)})
    files = []
    for place in chosen if count else []:
        sight = capture.sights[place]
        try:
            rows = [_row(sight, capture.points, sight, "as it is")]
            if corrected is not capture:
                rows.append(_row(sight, corrected.points, corrected.sights[place], "if mended"))
        except SceneError:
            continue
        files.append(folder / f"frame-{slug(sight.name)}.png")
        save_png(files[-1], torch.cat(rows, dim=0))
    return files


def _row(original: FrameSample, points: Tensor, sight: FrameSample, title: str) -> Tensor:
    image = _reduced(original).flip(sight.flipped)
    pixels, z, measured = _projected(points, sight)
    order = z.argsort(descending=True)  # the nearest is drawn last
    pixels, z, measured = pixels[order], z[order], measured[order]
    name = f"frame {sight.name}, {title}"
    shown = [_titled(_with_depth_edges(image, sight.depth), f"{name}: edges of depth")]
    radius = 1 if image.shape[1] > 200 else 0
    first = z <= 1.05 * _nearest_around(pixels, z, image.shape[0], image.shape[1])
    drawn = overlay_points(image, pixels[first], colorize_scores(-z[first]), radius=radius)
    shown.append(_titled(drawn, "points by distance, near is red"))
    if sight.depth is not None:
        known = first & (measured > 0)
        gap = (z - measured)[known] / measured[known]
        palette = torch.tensor([_BEFORE, _FITS, _BEHIND], dtype=torch.uint8)
        kind = 1 + (gap > _CLOSE).long() - (gap < -_CLOSE).long()
        drawn = overlay_points(image, pixels[known], palette[kind], radius=radius)
        shown.append(_titled(drawn, "green fits depth, red before, blue behind"))
    return torch.cat(shown, dim=1)


def _reduced(sight: FrameSample) -> Tensor:
    """(h, w, 3) uint8: the photograph at the size at which the frame was examined."""
    height, width = sight.gray.shape
    image = Image.fromarray(sight.frame.image().numpy())
    return torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.BOX)))


def _projected(points: Tensor, sight: FrameSample) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (M, 2) int64; distance and measured depth (M,) of points in the picture, metres."""
    height, width = sight.gray.shape
    thinned = points[:: max(1, len(points) // _MAX_POINTS)].double()
    found, z = project_to_pixels(thinned, invert_pose(sight.camera_to_world), sight.intrinsics)
    inside = (z > 0.05) & (found > -0.5).all(dim=1)
    inside &= (found[:, 0] < width - 0.5) & (found[:, 1] < height - 0.5)
    pixels, z = found[inside].round().long(), z[inside]
    if sight.depth is None:
        return pixels, z, torch.zeros_like(z)
    return pixels, z, sight.depth[pixels[:, 1], pixels[:, 0]].double()


def _nearest_around(pixels: Tensor, z: Tensor, height: int, width: int) -> Tensor:
    """(M,) metres: distance of the nearest point around each point's pixel, so that walls hide.

    Args:
        pixels: (M, 2) int64, column and row.
        z: (M,) distance along the optical axis, metres.
        height: of the picture, pixels.
        width: of the picture, pixels.
    """
    side = max(4, width // 40)
    columns = -(-width // side)
    cell = (pixels[:, 1] // side) * columns + pixels[:, 0] // side
    nearest = torch.full((columns * -(-height // side),), torch.inf, dtype=z.dtype)
    nearest.scatter_reduce_(0, cell, z, "amin")
    return nearest[cell] + 0.15  # metres; surfaces slope within a cell


def _with_depth_edges(image: Tensor, depth: Tensor | None) -> Tensor:
    if depth is None:
        return image
    far = torch.nn.functional.max_pool2d(depth[None, None], 3, 1, 1)[0, 0]
    known = torch.where(depth > 0, depth, torch.inf)
    near = -torch.nn.functional.max_pool2d(-known[None, None], 3, 1, 1)[0, 0]
    edges = far - near > 0.08 * near  # never where nothing is known: near is infinite
    return torch.where(edges[..., None], torch.tensor(_EDGE, dtype=torch.uint8), image)


def _titled(picture: Tensor, title: str) -> Tensor:
    """Enlarge a picture to at least 320 pixels and put a strip with its title above it."""
    times = max(1, round(320 / picture.shape[1]))
    picture = picture.repeat_interleave(times, dim=0).repeat_interleave(times, dim=1)
    strip = Image.new("RGB", (picture.shape[1], _STRIP), (24, 26, 30))
    draw = ImageDraw.Draw(strip)
    draw.text((6, 4), title, fill=(235, 235, 235), font=ImageFont.load_default(12))
    return torch.cat([torch.from_numpy(np.array(strip)), picture], dim=0)
