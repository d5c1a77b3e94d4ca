"""Software renderer for point clouds, with legends; needs no graphics card or window."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pcdistill.atomic_io import atomic_file
from pcdistill.geometry import ThinnedTree, require_shape
from pcdistill.visualization.colormaps import heat_colormap
from pcdistill.visualization.rasterize import eye_dome_lighting, fill_holes, rasterize_discs
from pcdistill.visualization.viewpoints import (
    RenderCamera,
    below_ceiling_mask,
    birds_eye_view,
    front_facing_mask,
    project_to_image,
)

BACKGROUND = (248, 249, 251)
"""Nearly white, so that white walls can be told from nothing."""
OVERSAMPLING = 2
"""Samples per pixel and direction; edges are smooth because of it."""
BULGE = 0.5
"""Of its radius; how far the rim of a disc lies behind its middle."""
MAX_DISC = 14.0
"""Pixels; no point is drawn with a larger radius."""


def draw_points(
    points: Tensor,
    colors: Tensor,
    *,
    normals: Tensor | None = None,
    view: RenderCamera | None = None,
    image_size: tuple[int, int] = (600, 800),
    hide_ceiling: bool = True,
    hide_near_walls: bool = True,
    point_size: float | None = None,
    background: tuple[int, int, int] = BACKGROUND,
) -> Tensor:
    """Draw a point cloud as a surface of shaded discs.

    Args:
        points: (N, 3) float, metres, z up. Without any the picture is empty.
        colors: (N, 3) uint8.
        normals: (N, 3) float, unit length, zero where unknown. They light the surface and show
            which walls are seen from behind.
        view: the camera; by default `birds_eye_view` of what is drawn. Pass the same view to draw
            several pictures that can be compared; its image size is used.
        image_size: (H, W) pixels, where no view is given.
        hide_ceiling: leave out what `below_ceiling_mask` finds.
        hide_near_walls: leave out what `front_facing_mask` finds, given normals.
        point_size: diameter of the discs, metres; by default what closes the surface.
        background: red, green, blue where nothing is.

    Returns:
        (H, W, 3) uint8 on the CPU.

    Raises:
        ValueError: shapes do not fit.
    """
    require_shape("points", points, None, 3)
    require_shape("colors", colors, len(points), 3)
    if normals is not None:
        require_shape("normals", normals, len(points), 3)
    points, colors = points.detach().cpu(), colors.detach().cpu()
    normals = None if normals is None else normals.detach().cpu()
    keep = points.isfinite().all(dim=1)
    if hide_ceiling:
        keep[keep.clone()] = below_ceiling_mask(
            points[keep], None if normals is None else normals[keep]
        )
    points, colors = points[keep], colors[keep]
    normals = None if normals is None else normals[keep]
    if view is None:
        if len(points) == 0:
            return _plain(image_size, background)
        view = birds_eye_view(
            points,
            image_size,
            normals=normals if hide_near_walls else None,
            hide_ceiling=False,  # gone already
        )
    if hide_near_walls and normals is not None:
        front = front_facing_mask(points, normals, view)
        points, colors, normals = points[front], colors[front], normals[front]
    if len(points) == 0:
        return _plain(view.image_size, background)
    positions = points.double().numpy()
    radius = (closing_diameter(positions) if point_size is None else point_size) / 2
    nearest, point = _surface(positions, view, radius)
    light = eye_dome_lighting(nearest, OVERSAMPLING, 10.0, BULGE * radius)
    factor = np.ones(len(positions)) if normals is None else _lighting(normals.double(), view)
    picture = np.empty((*nearest.shape, 3), dtype=np.float32)
    picture[:] = background
    drawn = point >= 0
    which = point[drawn]
    shade = (factor[which] * np.maximum(light[drawn], 0.45))[:, None]
    picture[drawn] = colors.numpy()[which] * shade
    height, width = view.image_size
    blocks = picture.reshape(height, OVERSAMPLING, width, OVERSAMPLING, 3)
    return torch.from_numpy(np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8))


def label_legend(names: Sequence[str], palette: Tensor, *, width: int = 800) -> Tensor:
    """Draw which colour means which category, as an image to put below a picture.

    Args:
        names: K names.
        palette: (K, 3) uint8.
        width: of the image, pixels.

    Returns:
        (H, W, 3) uint8.
    """
    require_shape("palette", palette, len(names), 3)
    font = ImageFont.load_default(15)
    cells = [24 + math.ceil(font.getlength(name)) + 18 for name in names]
    places, x, y = [], 12, 8
    for cell in cells:
        if x + cell > width and x > 12:
            x, y = 12, y + 24
        places.append((x, y))
        x += cell
    image = Image.new("RGB", (width, y + 30), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for (x, y), name, color in zip(places, names, palette.tolist(), strict=True):
        draw.rounded_rectangle((x, y + 2, x + 16, y + 18), 3, fill=tuple(color))
        draw.text((x + 24, y + 1), name, fill=(40, 44, 52), font=font)
    return torch.from_numpy(np.array(image))


def heat_legend(title: str, low: float, high: float, *, width: int = 800) -> Tensor:
    """Draw the colours of `colorize_scores` from `low` to `high`, as an image.

    Args:
        title: stands left of the colours.
        low: score of the first colour.
        high: score of the last colour.
        width: of the image, pixels.

    Returns:
        (H, W, 3) uint8.
    """
    font = ImageFont.load_default(15)
    image = Image.new("RGB", (width, 38), BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((12, 10), title, fill=(40, 44, 52), font=font)
    texts = f"{low:.2f}", f"{high:.2f}"
    right = width - 12 - math.ceil(font.getlength(texts[1]))
    draw.text((right, 10), texts[1], fill=(40, 44, 52), font=font)
    bar = heat_colormap(200).numpy()[None].repeat(14, axis=0)
    left = right - 208
    image.paste(Image.fromarray(bar), (left, 12))
    draw.text((left - 8 - font.getlength(texts[0]), 10), texts[0], fill=(40, 44, 52), font=font)
    return torch.from_numpy(np.array(image))


def stack_pictures(images: Sequence[Tensor]) -> Tensor:
    """Put (H, W, 3) images of one width below each other."""
    return torch.cat(list(images), dim=0)


def png_bytes(image: Tensor, *, colors: int | None = None) -> bytes:
    """Encode an (H, W, 3) uint8 image as PNG.

    Args:
        image: red green blue.
        colors: reduce it to that many colours, chosen so that small coloured things keep theirs;
            256 make the file about four times smaller.
    """
    require_shape("image", image, None, None, 3)
    picture = Image.fromarray(image.cpu().numpy())
    if colors is not None:
        picture = picture.quantize(
            colors, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def jpeg_bytes(image: Tensor, *, quality: int = 80) -> bytes:
    """Encode an (H, W, 3) uint8 photograph as JPEG, a fifth of the bytes of PNG.

    Args:
        image: red green blue.
        quality: of the encoder, 1 to 95.
    """
    require_shape("image", image, None, None, 3)
    stream = io.BytesIO()
    Image.fromarray(image.cpu().numpy()).save(stream, format="JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def save_png(path: Path, image: Tensor) -> None:
    """Write an (H, W, 3) uint8 image, whole or not at all."""
    require_shape("image", image, None, None, 3)
    with atomic_file(path) as temporary:
        # a third larger than the smallest, in a fifth of the time: somebody waits for it
        Image.fromarray(image.cpu().numpy()).save(temporary, "png", compress_level=2)


def _surface(
    positions: np.ndarray, view: RenderCamera, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rasterize points as discs and close small gaps.

    Args:
        positions: (N, 3) float64, metres, world frame.
        view: camera.
        radius: of the discs, metres.

    Returns:
        (h, w) float32 depth in metres and (h, w) int32 point of every sample of the picture.
    """
    column, row, depth, scale = project_to_image(positions, view)
    factor = OVERSAMPLING
    half = (factor - 1) / 2  # samples of a pixel lie around its centre
    discs = np.clip(radius * scale * factor, 0.71, MAX_DISC * factor)
    nearest, point = rasterize_discs(
        column * factor + half,
        row * factor + half,
        depth,
        discs,
        BULGE * radius,
        view.image_size[0] * factor,
        view.image_size[1] * factor,
    )
    for _ in range(2):
        fill_holes(nearest, point)
    return nearest, point


def closing_diameter(positions: np.ndarray) -> float:
    """Diameter, metres, of discs that close the surface where most of (N, 3) float64 points are."""
    if len(positions) < 8:
        return 0.05
    some = positions[:: max(1, len(positions) // 2000)]
    distance, _ = ThinnedTree(positions, 6, quick=True).nearest(some, 6)
    return float(1.35 * np.quantile(distance[:, -1], 0.7))


def _lighting(normals: Tensor, view: RenderCamera) -> np.ndarray:
    """Light factor of each point from a lamp above the camera's left shoulder, both sides."""
    axes = view.camera_to_world[:3, :3]
    lamp = torch.nn.functional.normalize(
        -axes[:, 2] - 0.3 * axes[:, 0] + normals.new_tensor([0.0, 0.0, 0.3]), dim=0
    )
    facing = (normals @ lamp).abs().numpy()
    factor: np.ndarray = 0.7 + 0.3 * facing
    factor[(normals == 0).all(dim=1).numpy()] = 0.9
    return factor


def _plain(image_size: tuple[int, int], background: tuple[int, int, int]) -> Tensor:
    return torch.tensor(background, dtype=torch.uint8).expand(*image_size, 3).clone()
