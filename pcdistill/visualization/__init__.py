"""Pictures of point clouds: cameras to draw them from, rasterization, colormaps, overlays."""

from pcdistill.visualization.colormaps import (
    UNSEEN,
    colorize_labels,
    colorize_scores,
    colorize_superpoints,
    heat_colormap,
    score_range,
)
from pcdistill.visualization.draw_points import (
    closing_diameter,
    draw_points,
    heat_legend,
    jpeg_bytes,
    label_legend,
    png_bytes,
    save_png,
    stack_pictures,
)
from pcdistill.visualization.masks import draw_heat, draw_mask, fit_width
from pcdistill.visualization.overlay import overlay_points
from pcdistill.visualization.viewpoints import (
    RenderCamera,
    below_ceiling_mask,
    birds_eye_view,
    front_facing_mask,
)

__all__ = [
    "UNSEEN",
    "RenderCamera",
    "below_ceiling_mask",
    "birds_eye_view",
    "closing_diameter",
    "colorize_labels",
    "colorize_scores",
    "colorize_superpoints",
    "draw_heat",
    "draw_mask",
    "draw_points",
    "fit_width",
    "front_facing_mask",
    "heat_colormap",
    "heat_legend",
    "jpeg_bytes",
    "label_legend",
    "overlay_points",
    "png_bytes",
    "save_png",
    "score_range",
    "stack_pictures",
]
