"""Outlines of what is in boxes, from colours, edges and, where known, depth and superpoints.

Source: Rother et al., GrabCut, SIGGRAPH 2004 (alternating colour models and minimum cuts from a
box); here on regions, with steps of depth as edges, with a model of depth beside that of colour,
and with superpoints as evidence: one that reaches far out of a box is not what the box is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import require_shape
from pcdistill.segmenters.region_cut import minimum_cut, usual_density
from pcdistill.segmenters.region_graph import RegionGraph, region_graph

Array = NDArray[Any]
Box = tuple[float, float, float, float]

_NEVER = -1e5
"""Favour of a region outside of a box; beyond any sum of others."""
_SHARPEST = 30.0
"""Units of Lab per pixel that a step of depth counts for at most."""


class _Regions(NamedTuple):
    """An image in R regions, and what is known of them."""

    graph: RegionGraph
    cut_costs: Array
    """(E,) float64, of cutting between each pair that touches."""
    of_color: Array
    """(R, R) float64, kernel of how alike two are in colour."""
    of_depth: Array | None
    """(R, R) float64, the same in depth; None where no depth is known."""
    superpoint_ids: Array | None
    """(h, w) integer, -1 where no point lands."""


@dataclass(frozen=True)
class BoxOutliner:
    """Outlines what is in each of some boxes, without knowing what it is; deterministic.

    The image is cut once into regions of even colour, along steps of depth. For each box the first
    guess is its middle, without superpoints that reach far out of it. Colours and depths in the
    guess and around the box are described by densities; the cut that agrees best with them, with
    the box and with the edges is found, and becomes the guess, a few times over.
    """

    pixels_per_region: int = 256
    """Of an image whose longer side is `max_side` or less."""
    max_side: int = 640
    """Pixels; larger images are shrunk to it."""
    color: float = 2.0
    """Weight of the colour densities."""
    color_width: float = 3.5
    """Width of their kernels, in units of Lab."""
    depth: float = 3.0
    """Weight of the depth densities."""
    depth_width: float = 0.06
    """Width of their kernels, relative to the depth."""
    depth_edge: float = 200.0
    """Units of Lab per pixel that a step of depth counts for, for a step as large as the depth."""
    middle: float = 1.5
    """Weight of lying near the middle of the box."""
    superpoint: float = 6.0
    """Weight of the share of a superpoint that is in the box."""
    superpoint_inside: float = 0.6
    """That share at which a superpoint says nothing."""
    edge: float = 12.0
    """Cost of cutting between two equal regions along one region's width."""
    edge_width: float = 6.0
    """Step, in units of Lab, over which that cost falls to 1 / e."""
    margin: float = 0.4
    """How far around the box the background is described, as a share of the box's sides."""
    rounds: int = 3
    """How often densities and cut alternate."""

    def __call__(
        self,
        image: Tensor,
        boxes: Tensor,
        depth: Tensor | None = None,
        superpoint_ids: Tensor | None = None,
    ) -> Tensor:
        """Outline what is in boxes.

        Args:
            image: (3, H, W) uint8 RGB.
            boxes: (n, 4) float, (x0, y0, x1, y1), pixels.
            depth: (H, W) float, metres, 0 where unknown; None where nothing is known.
            superpoint_ids: (H, W) integer, superpoint of the point seen at a pixel, -1 where no
                point lands; None where the scan is not cut.

        Returns:
            (n, H, W) bool on the CPU, each inside of its box.

        Raises:
            ValueError: other shapes or another dtype of the image.
        """
        require_shape("image", image, 3, None, None)
        require_shape("boxes", boxes, None, 4)
        if image.dtype != torch.uint8:
            raise ValueError(f"image is {image.dtype}, expected uint8")
        size = (int(image.shape[1]), int(image.shape[2]))
        for name, known in (("depth", depth), ("superpoint_ids", superpoint_ids)):
            if known is not None:
                require_shape(name, known, *size)
        if len(boxes) == 0:
            return torch.zeros(0, *size, dtype=torch.bool)
        factor = min(1.0, self.max_side / max(size))
        small = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        regions = self._regions(
            _shrink(image.cpu(), small),
            None if depth is None else _nearest(depth.cpu().float(), small).numpy(),
            None if superpoint_ids is None else _shrink_ids(superpoint_ids.cpu(), small),
        )
        scale = torch.tensor([small[1] / size[1], small[0] / size[0]] * 2)
        masks = [self._outline(regions, tuple(box)) for box in (boxes.cpu() * scale).tolist()]
        return _nearest(torch.from_numpy(np.stack(masks)), size)

    def _regions(self, image: Array, depth: Array | None, ids: Array | None) -> _Regions:
        """Cut an image (h, w, 3) uint8."""
        count = max(1, image.shape[0] * image.shape[1] // self.pixels_per_region)
        logs = None if depth is None or not (depth > 0).any() else _smooth_log(depth)
        edges = None if logs is None else np.minimum(self.depth_edge * _steps(logs), _SHARPEST)
        graph = region_graph(image, count, edges)
        of_depth = None
        if logs is not None:
            mean = np.bincount(graph.region_of_pixel.ravel(), logs.ravel()) / graph.areas
            of_depth = np.exp(-((mean[:, None] - mean) ** 2) / (2 * self.depth_width**2))
        away = cdist(graph.appearance, graph.appearance, "sqeuclidean")
        of_color = np.exp(-away / (2 * self.color_width**2))
        side = np.sqrt(graph.areas.mean())
        costs = self.edge * graph.lengths / side * np.exp(-graph.steps / self.edge_width)
        return _Regions(graph, costs, of_color, of_depth, ids)

    def _outline(self, regions: _Regions, box: Box) -> Array:
        """(h, w) bool: what is in one box."""
        graph = regions.graph
        inside = _in_box(box, graph.region_of_pixel.shape)
        candidate = _mean_over(graph, inside) > 0.5
        if not candidate.any():  # smaller than a region
            return inside
        wide, tall = self.margin * (box[2] - box[0]), self.margin * (box[3] - box[1])
        around = (box[0] - wide, box[1] - tall, box[2] + wide, box[3] + tall)
        nearby = _mean_over(graph, _in_box(around, inside.shape)) > 0.5
        prior = self._prior(regions, box, inside)
        chosen = candidate & (prior > 0)
        if not chosen.any():
            chosen = candidate
        weights = graph.areas / graph.areas.mean()
        for _ in range(self.rounds):
            outside = nearby & ~chosen if (nearby & ~chosen).any() else ~chosen
            if not outside.any():
                break
            favour = prior + self._likelihood(regions, chosen, outside)
            favour = np.where(candidate, favour * weights, _NEVER)
            cut = minimum_cut(graph, favour, regions.cut_costs)
            if not cut.any() or (cut == chosen).all():  # all alike: the guess is as good
                break
            chosen = cut
        return np.asarray(chosen[graph.region_of_pixel] & inside)

    def _prior(self, regions: _Regions, box: Box, inside: Array) -> Array:
        """(R,) what speaks for each region before anything is known of colours."""
        row, column = np.mgrid[0 : inside.shape[0], 0 : inside.shape[1]]
        off = np.maximum(
            np.abs(2 * column - box[0] - box[2]) / max(box[2] - box[0], 1),
            np.abs(2 * row - box[1] - box[3]) / max(box[3] - box[1], 1),
        )  # (h, w), 0 in the middle of the box, 1 at its rim
        prior = self.middle * (0.75 - _mean_over(regions.graph, np.minimum(off, 1)) ** 2)
        if regions.superpoint_ids is not None:
            known = regions.superpoint_ids >= 0
            share = np.full(inside.shape, self.superpoint_inside)
            share[known] = _share_inside(regions.superpoint_ids[known], inside[known])
            landed = np.bincount(regions.graph.region_of_pixel[known], minlength=len(prior))
            total = _mean_over(regions.graph, share - self.superpoint_inside) * regions.graph.areas
            prior = prior + self.superpoint * total / np.maximum(landed, 1)
        return np.asarray(prior)

    def _likelihood(self, regions: _Regions, chosen: Array, outside: Array) -> Array:
        """(R,) how much rather each looks like the chosen regions than like those outside."""
        areas = regions.graph.areas
        ratio = np.zeros(len(areas))
        for weight, kernel in ((self.color, regions.of_color), (self.depth, regions.of_depth)):
            if kernel is not None:
                within = usual_density(kernel, areas * chosen)
                ratio += weight * np.log(within / usual_density(kernel, areas * outside))
        return ratio


def _in_box(box: Box, shape: tuple[int, ...]) -> Array:
    """(h, w) bool."""
    left, top, right, bottom = (max(0, round(side)) for side in box)
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def _mean_over(graph: RegionGraph, values: Array) -> Array:
    """(R,) mean of `values` (h, w) over each region."""
    return np.asarray(np.bincount(graph.region_of_pixel.ravel(), values.ravel()) / graph.areas)


def _share_inside(ids: Array, inside: Array) -> Array:
    """Share (n,) of the superpoint of each of n pixels that is inside, of those seen here."""
    total = np.bincount(ids)
    return np.asarray((np.bincount(ids, inside) / np.maximum(total, 1))[ids])


def _smooth_log(depth: Array) -> Array:
    """Logarithm of a depth, filled from the nearest reading where there is none, without specks."""
    unknown = depth <= 0
    if unknown.any():
        row, column = ndimage.distance_transform_edt(
            unknown, return_distances=False, return_indices=True
        )
        depth = depth[row, column]
    return np.asarray(ndimage.median_filter(np.log(depth), 5))


def _steps(logs: Array) -> Array:
    """(h, w) how much a depth jumps at each pixel, relative to itself; 0 on slants."""
    bends = [np.abs(ndimage.convolve1d(logs, [1, 0, -2, 0, 1], axis=axis)) for axis in (0, 1)]
    return np.asarray(np.maximum(*bends))


def _shrink(image: Tensor, size: tuple[int, int]) -> Array:
    """(h, w, 3) uint8 of an image (3, H, W)."""
    if tuple(image.shape[1:]) != size:
        pixels = functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
        image = pixels[0].round().to(torch.uint8)
    return image.permute(1, 2, 0).numpy()


def _nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Values (..., H, W) at the nearest pixels of another size (h, w)."""
    row, column = (
        ((torch.arange(new) + 0.5) * old / new).long()
        for new, old in zip(size, values.shape[-2:], strict=True)
    )
    return values[..., row[:, None], column]


def _shrink_ids(ids: Tensor, size: tuple[int, int]) -> Array:
    """Ids (H, W) at another size (h, w); none that lands is lost but to another one."""
    row, column = (ids >= 0).nonzero().unbind(dim=1)
    small = torch.full(size, -1, dtype=torch.int64)
    to_row, to_column = row * size[0] // ids.shape[0], column * size[1] // ids.shape[1]
    small[to_row, to_column] = ids[row, column].long()
    return small.numpy()
