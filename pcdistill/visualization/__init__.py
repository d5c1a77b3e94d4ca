"""Pictures of point clouds: cameras to draw them from, rasterization, colormaps, overlays."""

from pcdistill.visualization.colormaps import (
    UNSEEN,
    heat_colors,
    heat_range,
    heat_table,
    label_colors,
    superpoint_colors,
)
from pcdistill.visualization.draw_points import (
    draw_points,
    heat_legend,
    label_legend,
    png_bytes,
    save_png,
    stack_pictures,
)
from pcdistill.visualization.overlay import overlay_points
from pcdistill.visualization.viewpoints import View, below_ceiling, birds_view, faces_camera

__all__ = [
    "UNSEEN",
    "View",
    "below_ceiling",
    "birds_view",
    "draw_points",
    "faces_camera",
    "heat_colors",
    "heat_legend",
    "heat_range",
    "heat_table",
    "label_colors",
    "label_legend",
    "overlay_points",
    "png_bytes",
    "save_png",
    "stack_pictures",
    "superpoint_colors",
]
