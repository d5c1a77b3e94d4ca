"""Statistics of the embedded homes' scans beside those of real ones, for docs/homes.md."""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import DOCS

if TYPE_CHECKING:
    from torch import Tensor

    from pcdistill.scenes import Scene

SPLIT = "train"
"""Development homes: those that are reported on are not looked at."""
FACTOR = 1.5
"""A ratio above this, or below one over it, counts as far."""

SECTIONS: tuple[tuple[str, tuple[tuple[str, str, int], ...]], ...] = (
    (
        "Surface",
        (
            ("points", "points", 0),
            ("area", "area of the mesh, m²", 0),
            ("density", "points per m²", 0),
            ("spacing", "distance to the nearest point, median, mm", 1),
            ("edge", "edges of the mesh, median, mm", 1),
            ("holes", "borders of the mesh (holes and ends), m per m²", 1),
            ("hole_edges", "edges on borders per m²", 0),
            ("pieces", "connected pieces per m²", 2),
            ("largest_piece", "points in the largest piece, %", 0),
            ("flat", "flat places, % of points", 0),
            ("roughness", "roughness of flat places, median, mm", 1),
            ("roughness_90", "roughness of flat places, 90 %, mm", 1),
            ("normal_noise", "normals against the plane of a flat place, median, degrees", 1),
            ("normal_noise_90", "normals against that plane, 90 %, degrees", 1),
            ("mesh_normal_noise", "normals of the mesh against that plane, median, degrees", 1),
            ("bend", "normals at both ends of an edge there, median, degrees", 1),
            ("bend_90", "normals at both ends of an edge there, 90 %, degrees", 1),
            ("color_step", "brightness at both ends of an edge, median, grey levels", 1),
        ),
    ),
    (
        "Views",
        (
            ("frames", "frames", 0),
            ("frame_density", "frames per 10 m² of surface", 1),
            ("way", "way of the camera from frame to frame, median, cm", 0),
            ("views", "frames that see a point, mean", 1),
            ("views_median", "frames that see a point, median", 0),
            ("views_0", "points that no frame sees, %", 1),
            ("views_1", "points that 1 frame sees, %", 1),
            ("views_2", "points that 2 frames see, %", 1),
            ("views_3", "points that 3 frames or more see, %", 1),
            ("in_view", "share of all points that a frame sees, %", 1),
            ("unseen", "points that no frame sees by the rule of `lift`, %", 1),
        ),
    ),
    (
        "Depth",
        (
            ("missing", "pixels without depth, %", 1),
            ("missing_90", "pixels without depth, frame at 90 %, %", 1),
            ("missing_edges", "pixels without depth beside steps of the surface, %", 1),
            ("missing_flat", "pixels without depth away from steps, %", 1),
            ("off", "depth against the surface, relative, median, %", 2),
            ("off_95", "depth against the surface, relative, 95 %, %", 2),
            ("off_mm", "depth against the surface, median, mm", 1),
            ("elsewhere", "pixels off by more than a tenth, %", 1),
            ("no_surface", "readings whose ray meets no surface, %", 1),
            ("depth_noise", "noise of one image at 2 m, median, mm", 1),
            ("drift", "shift that a frame's depth asks of its pose, median, mm", 1),
            ("drift_90", "shift that it asks, 90 %, mm", 1),
            ("turn", "turn that it asks, median, degrees", 2),
            ("turn_90", "turn that it asks, 90 %, degrees", 2),
            ("drift_step", "change of that shift between frames, median, mm", 1),
        ),
    ),
    (
        "Colour",
        (
            ("image_noise", "noise of the images, grey levels", 1),
            ("color_spread", "brightness of a point from frame to frame, grey levels", 1),
        ),
    ),
    (
        "Superpoints",
        (
            ("superpoints", "superpoints per 1000 points", 1),
            ("superpoints_per_m2", "superpoints per m²", 1),
            ("size", "points of a superpoint, median", 0),
            ("size_mean", "points of a superpoint, mean", 0),
            ("extent", "area of a superpoint, median, m²", 2),
            ("extent_mean", "area of a superpoint, mean, m²", 2),
            ("label_purity", "purity by labels, %", 1),
            ("label_mean_iou", "mean IoU of the best label per superpoint, %", 1),
            ("label_boundary_recall", "borders of labels found, %", 1),
            ("label_boundary_precision", "borders cut that are borders of labels, %", 1),
            ("instance_purity", "purity by objects, %", 1),
            ("instance_boundary_recall", "borders of objects found, %", 1),
            ("instance_boundary_precision", "borders cut that are borders of objects, %", 1),
            ("painted_label_purity", "purity by painted labels, %", 1),
            ("painted_label_boundary_recall", "borders of painted labels found, %", 1),
            ("painted_instance_purity", "purity by painted objects, %", 1),
            ("painted_instance_boundary_recall", "borders of painted objects found, %", 1),
        ),
    ),
)
"""Heading -> rows: the name of a statistic, what it is, and its decimals."""

COUNTS = {"points", "area", "frames"}
"""What depends on how large a scan is: not compared."""
PAINTED = {"label", "instance"}
"""Kinds of truth that real scans have painted onto segments of their own mesh: compared on others
only."""

HOW = f"""\
Real scans are opened with every stored frame. All frames are measured at the size at which the
pipeline reads them. How each number is got:

- A *flat place* is a vertex whose neighbours within 10 cm lie within about 7 mm of a plane;
  *roughness* is the root mean square of their distances from it. Normals are those that come with
  the points, or those of the mesh where none come.
- A frame *sees* a point where its depth there agrees within 5 %; the rule of `lift` allows 25 %.
- *Depth against the surface* compares each reading with the first hit of its ray on the mesh. The
  pose correction lays the depth of a frame onto the mesh by point-to-plane least squares: it is how
  far frames disagree with the surface that was fused from them, which is less than their error.
- *Noise of one image* is the residual of planes in windows of 7 x 7 pixels, scaled to 2 m.
- *Superpoints* are those of the default settings (threshold 0.01, at least 60 points); borders are
  compared within one edge of the mesh, as [the stage](stages.md) does.
- *Painted* labels are what most points of each segment of ScanNet's segmentator (threshold 0.01, at
  least 20 points) are: what ScanNet's annotators would have made of the truth.
- *Merged* scans have their vertices merged as those of homes are, so that what a resolution does is
  told from what a sensor does; labels and colours are those of the nearest vertex.
- "Less" and "more" above mean by a factor of {FACTOR} at least.
"""

PUBLISHED = """\
ScanNet's labels were given segment by segment: its ground truth is
[the segments of `*_vh_clean_2.0.010000.segs.json` that each object lists][scannet]. Against it the
purity and the boundary recall of ScanNet's own segments are 100 % by construction, and no figure
for them can tell how often a segment crosses two things. The rows of painted labels put homes on
the footing of scans that are labelled so; a scan whose labels are painted already has the same
numbers in both, unless it was merged. The authors of Superpoint Transformer give a
[rule of thumb][spt] for partitions of any data set: 30 to 50 points a superpoint, and a mean IoU
above 95 % of the best label per superpoint. Boundary recall and precision are those of the
[code][ssp] of Landrieu & Boussaha, Point Cloud Oversegmentation with Graph-Structured Deep Metric
Learning, CVPR 2019. Figures of papers whose tables were not at hand are not repeated here.

[scannet]: https://github.com/ScanNet/ScanNet/blob/3830fce7f8b2e48ef047ef7fd76ea5f62903f51c/BenchmarkScripts/3d_helpers/export_train_mesh_for_evaluation.py
[spt]: https://github.com/drprojects/superpoint_transformer/blob/eb959b61226f60e0c037cc105c56d51318650e8a/notebooks/superpoint_transformer_tutorial.ipynb
[ssp]: https://github.com/loicland/superpoint_graph/tree/0209777339327c9b327b6947af6c89b20bb45981/supervized_partition
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--homes", type=int, default=4, help="development homes")
    parser.add_argument(
        "--scan", type=Path, action="append", default=[], help="a real scan; may come several times"
    )
    parser.add_argument("--title", action="append", default=[], help="of each scan, in their order")
    parser.add_argument("--about", default="", help="what the scans are, for the page")
    parser.add_argument(
        "--write", type=Path, const=DOCS / "homes.md", nargs="?", help="write the page, or another"
    )


class Column(NamedTuple):
    """One real scan of the table."""

    title: str
    found: dict[str, float]
    painted: bool
    """Its labels are those of segments of this very mesh."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure homes and scans, and print or write the table."""
    from pcdistill.homes import ScannerSettings, home_scene

    if arguments.title and len(arguments.title) != len(arguments.scan):
        raise SystemExit(
            f"--title is given {len(arguments.title)} times, expected once for each of the "
            f"{len(arguments.scan)} scans; give as many of both"
        )
    if arguments.homes < 1:
        raise SystemExit(f"--homes is {arguments.homes}, expected at least 1")
    spacing = ScannerSettings().spacing
    real = []
    for index, path in enumerate(arguments.scan):
        scene = open_real_scan(path)
        title = arguments.title[index] if arguments.title else scene.name
        real.append(Column(title, measure(scene), True))
        coarse = measure(merged(scene, spacing))
        real.append(Column(f"{title}, merged to {100 * spacing:.0f} cm", coarse, False))
    homes = [measure(home_scene(seed, SPLIT)) for seed in range(arguments.homes)]
    page = homes_page(homes, real, arguments.about)
    if arguments.write is None:
        print(page)
    else:
        arguments.write.write_text(page, encoding="utf-8")
    return {
        "homes": {key: rounded(mean(homes, key)) for key in homes[0]},
        "scans": {
            column.title: {key: rounded(value) for key, value in column.found.items()}
            for column in real
        },
    }


def open_real_scan(path: Path) -> Scene:
    """Open a scan with all its frames.

    Raises:
        SystemExit: it cannot be read, or has no mesh or no depth.
    """
    from pcdistill.errors import ConfigError, SceneError
    from pcdistill.scenes import open_scene, require_scans

    try:
        stored = require_scans(path)[0].layout == "stored"
        scene = open_scene(path) if stored else open_scene(path, frame_step=1)
    except (ConfigError, SceneError) as error:
        raise SystemExit(str(error)) from None
    if scene.faces is None or len(scene.faces) == 0:
        raise SystemExit(f"{path}: has no mesh, expected one to measure; give a scan with a mesh")
    if not scene.frames or scene.frames[0].depth() is None:
        raise SystemExit(f"{path}: has no frames with depth, expected some; give an RGB-D scan")
    return scene


def merged(scene: Scene, spacing: float) -> Scene:
    """Merge the vertices of a scan as those of homes are; the rest is that of the nearest.

    Labels that were painted on segments of the finer mesh are then not those of any segment.
    """
    from pcdistill.geometry import ThinnedTree, merge_close_vertices, vertex_normals
    from pcdistill.scenes import Scene

    from .scan_parts import faces_of

    faces = faces_of(scene)
    sides = vertex_normals(scene.points, faces)
    mesh = merge_close_vertices(scene.points, faces, sides, spacing)
    fine = scene.points.double().numpy()
    nearest = ThinnedTree(fine, 1).nearest(mesh.points.numpy(), 1)[1][:, 0]

    def taken(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[nearest]

    return Scene(
        name=scene.name,
        points=mesh.points.float(),
        faces=mesh.faces,
        colors=taken(scene.colors),
        labels=taken(scene.labels),
        instances=taken(scene.instances),
        frames=scene.frames,
        label_set=scene.label_set,
    )


def measure(scene: Scene) -> dict[str, float]:
    """All statistics of one scan; those that it cannot have are missing."""
    from .scan_frames import color_statistics, depth_statistics, view_statistics
    from .scan_surface import scan_superpoint_statistics, surface_statistics

    found: dict[str, float] = {}
    for part in (
        surface_statistics,
        view_statistics,
        depth_statistics,
        color_statistics,
        scan_superpoint_statistics,
    ):
        found |= part(scene)
    found["frame_density"] = 10 * found["frames"] / found["area"]
    return {name: value for name, value in found.items() if math.isfinite(value)}


def mean(found: list[dict[str, float]], key: str) -> float | None:
    """Of a statistic over the scans that have it."""
    values = [one[key] for one in found if key in one]
    return statistics.mean(values) if values else None


def rounded(value: float | None) -> float | None:
    """To four digits that count."""
    return None if value is None else float(f"{value:.4g}")


def homes_page(homes: list[dict[str, float]], real: list[Column], about: str) -> str:
    """Write the documentation page, in Markdown.

    Args:
        homes: statistics of each home.
        real: real scans.
        about: a paragraph on them, or empty.
    """
    lines = [
        "# The embedded homes as scans",
        "",
        f"What `python tools/benchmark.py scans --homes {len(homes)} --scan ...` wrote: mean and "
        f"range over the scans of {len(homes)} development homes (split `{SPLIT}`), beside real "
        "scans. A ratio is the mean of the homes over the real scan.",
        "",
        *([about, ""] if about else []),
        *table(homes, real),
        "",
        "## How far they are",
        "",
        *distances(homes, real),
        "",
        "## How it was measured",
        "",
        HOW,
        "## What is published of superpoints on real scans",
        "",
        PUBLISHED,
    ]
    return "\n".join(lines).rstrip() + "\n"


def table(homes: list[dict[str, float]], real: list[Column]) -> list[str]:
    """Rows of Markdown."""
    head = "".join(f" {column.title} | ratio |" for column in real)
    lines = [f"| | homes |{head}", "|---|---:|" + "---:|---:|" * len(real)]
    for heading, rows in SECTIONS:
        lines.append(f"| **{heading}** | |" + " | |" * len(real))
        for key, label, digits in rows:
            cells = [span(homes, key, digits)]
            for column in real:
                cells += [shown(column.found.get(key), digits), shown(ratio(homes, column, key), 2)]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def span(homes: list[dict[str, float]], key: str, digits: int) -> str:
    """Format mean and range over the homes.

    Args:
        homes: statistics of each.
        key: of the statistic.
        digits: after the point.
    """
    middle = mean(homes, key)
    if middle is None:
        return "-"
    values = [home[key] for home in homes if key in home]
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def shown(value: float | None, digits: int) -> str:
    """A number of the table, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def ratio(homes: list[dict[str, float]], column: Column, key: str) -> float | None:
    """Mean of the homes over the value of a scan; None where that means nothing.

    Args:
        homes: statistics of each.
        column: the scan.
        key: of the statistic.
    """
    ours, theirs = mean(homes, key), column.found.get(key)
    incomparable = column.painted and key.split("_")[0] in PAINTED
    if key in COUNTS or incomparable or ours is None or not theirs:
        return None
    return ours / theirs


def distances(homes: list[dict[str, float]], real: list[Column]) -> list[str]:
    """What the table says, in sentences that follow from its numbers."""
    lines = []
    for column in real:
        known = {
            label: value
            for _, rows in SECTIONS
            for key, label, _ in rows
            if (value := ratio(homes, column, key)) is not None
        }
        below = {label: value for label, value in known.items() if value <= 1 / FACTOR}
        above = {label: value for label, value in known.items() if value >= FACTOR}
        near = len(known) - len(below) - len(above)
        lines.append(
            f"- {column.title}: {near} of {len(known)} statistics are within a factor of {FACTOR}. "
            f"Homes have less: {listed(below)}. Homes have more: {listed(above)}."
        )
    if not lines:
        lines.append("- No real scan was given.")
    best, size = mean(homes, "label_mean_iou"), mean(homes, "size_mean")
    if best is not None and size is not None:
        lines.append(
            f"- The best label per superpoint has a mean IoU of {best:.1f} % on homes, with "
            f"{size:.0f} points a superpoint."
        )
    return lines


def listed(ratios: dict[str, float]) -> str:
    """Names with their ratios, or "nothing"."""
    return "; ".join(f"{name} ({value:.2f})" for name, value in ratios.items()) or "nothing"
