"""Pictures of a scan that tell whether its geometry is right, with or without any label."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pcdistill.artifacts import PointFeatureStore, load_superpoint_ids
from pcdistill.lifting import SceneProjector
from pcdistill.pipeline import Workspace
from pcdistill.reporting.report_data import HeatScale, LabelColor, Picture
from pcdistill.scenes import Frame, Scene
from pcdistill.visualization import (
    UNSEEN,
    colorize_scores,
    colorize_superpoints,
    overlay_points,
    score_range,
)

SECTION = "Geometry"


def geometry_pictures(
    workspace: Workspace,
    point_features: PointFeatureStore,
    scene: Scene,
    draw: Callable[[Tensor], Tensor],
) -> Iterator[Picture]:
    """Draw points coloured by superpoint and by the number of frames that see them; two overlays.

    Args:
        workspace: of a run whose stages before the report are done for the scene.
        point_features: of its teachers.
        scene: as stored.
        draw: the picture of the points in colours (N, 3) uint8.
    """
    ids = load_superpoint_ids(workspace, scene.name)
    count = int(ids.max()) + 1
    has_pieces = count < len(ids) / 2
    caption = f"{count} superpoints{', one for each point' if count == len(ids) else ''}"
    yield Picture(SECTION, caption, draw(colorize_superpoints(ids)))
    if point_features.teachers:
        views = point_features.view_counts(point_features.teachers[0], scene.name)
        yield _coverage(views, draw)
    if scene.frames:
        projector = SceneProjector(scene, point_features.rules)
        last = len(scene.frames)
        for number in sorted({last // 4, 3 * last // 4}):
            yield _overlay(projector, scene.frames[number], ids if has_pieces else None)


def _coverage(views: Tensor, draw: Callable[[Tensor], Tensor]) -> Picture:
    limit = float(views.max())
    colors = colorize_scores(views.float(), low=0.0, high=limit)
    colors[views == 0] = torch.tensor(UNSEEN, dtype=torch.uint8)
    unseen = float((views == 0).float().mean())
    return Picture(
        SECTION,
        f"frames that see each point, {views.float().mean():.1f} on average",
        draw(colors),
        scale=HeatScale("frames", 0.0, limit, LabelColor(f"none, {100 * unseen:.0f} %", UNSEEN)),
    )


def _overlay(projector: SceneProjector, frame: Frame, superpoints: Tensor | None) -> Picture:
    """A frame with the points that it sees, coloured by superpoint, or by distance without any.

    A misplaced camera shows in either: the colours then change where no object ends.
    """
    seen = projector.project(frame)
    far_first = seen.depth.argsort(descending=True)
    kept = far_first[seen.visible[far_first]]
    caption = f"frame {frame.name}: the {len(kept)} points it sees, coloured by"
    image, pixels = frame.image(), seen.pixels[kept]
    radius = max(1, frame.image_size[1] // 320)
    if superpoints is not None:
        shown = colorize_superpoints(superpoints[kept])
        drawn = overlay_points(image, pixels, shown, radius=radius)
        return Picture(SECTION, f"{caption} superpoint", drawn)
    nearness = -seen.depth[kept].log()
    far, near = (math.exp(-end) for end in score_range(nearness))
    drawn = overlay_points(image, pixels, colorize_scores(nearness), radius=radius)
    return Picture(SECTION, f"{caption} distance", drawn, scale=HeatScale("metres", far, near))
