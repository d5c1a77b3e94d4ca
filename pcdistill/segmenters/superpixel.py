"""Superpixel segmenter: outlines the object under a few points by colors and edges alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist, pdist
from skimage.draw import polygon
from torch import Tensor

from pcdistill.segmenters.prompt_checks import check_point_prompts
from pcdistill.segmenters.region_cut import minimum_cut, usual_density
from pcdistill.segmenters.region_graph import RegionGraph, region_graph

Array = NDArray[Any]

_HARD = 1e5
"""Cost of giving up a region that the points are on; beyond any sum of others."""
_MIN_SPREAD = 0.05
"""Spread of the points below which it is not believed, as a share of the image's shorter side."""


@dataclass(frozen=True)
class SuperpixelSegmenter:
    """Point-prompted segmentation without a learnt model; deterministic.

    The image is cut into regions of even colour. A first guess of the object is what lies near
    the points: prompt points are spread over an object, so their mean distance tells its size.
    Colours inside and outside the guess are described by densities, and the cut that agrees best
    with these densities, with nearness, and with the edges of the image is found (a minimum cut
    between regions); the guess becomes this cut, and so on a few times. What does not hang
    together with a point is dropped and small holes are filled.

    It sees the image and the points, nothing else.

    Source: Rother et al., GrabCut, SIGGRAPH 2004 (alternating colour models and minimum cuts);
    here on regions, with kernel densities and with points for a box.
    """

    regions: int = 600
    """Regions that the image is cut into, about."""
    reach: float = 1.0
    """How far the first guess goes beyond the points, in mean distances between them."""
    nearness: float = 1.5
    """Weight of lying near the points."""
    color: float = 2.0
    """Weight of the colour densities."""
    color_width: float = 3.5
    """Width of their kernels, in units of Lab."""
    path: float = 0.03
    """Weight of the colour steps on the way from the points to a region."""
    edge: float = 17.0
    """Cost of cutting between two equal regions along one region's width."""
    edge_width: float = 6.0
    """Step of colour, in units of Lab, over which that cost falls to 1 / e."""
    rounds: int = 3
    """How often models and cut alternate."""
    largest_hole: float = 0.02
    """Holes up to this share of the image are filled."""

    name = "superpixels"

    @property
    def provenance(self) -> Mapping[str, str]:
        """Revision of the method; another one makes other masks."""
        return {"revision": "1"}

    def __call__(self, image: Tensor, points: Tensor) -> Tensor:
        """Outline the object that the points lie on.

        Args:
            image: (3, H, W) uint8 RGB.
            points: (P, 2) int64, (x, y) = (column, row), P >= 1.

        Returns:
            (H, W) bool, on the image's device; every point is inside.

        Raises:
            ValueError: other shapes or dtypes, no point, or a point outside the image.
        """
        check_point_prompts(image, points)
        places = points.detach().cpu().long().numpy()
        graph = region_graph(image.permute(1, 2, 0).cpu().numpy(), self.regions)
        chosen = self._choose(graph, places)
        mask = self._tidy(chosen[graph.region_of_pixel], places)
        return torch.from_numpy(mask).to(image.device)

    def _choose(self, graph: RegionGraph, places: Array) -> Array:
        """Regions (R,) bool of the object."""
        hull = _hull(places, graph.region_of_pixel.shape)
        certain = _certain(graph, places, hull)
        nearness = self.nearness * self._nearness(graph, places, hull)
        detour = self.path * _color_path(graph, certain)
        kernel = np.exp(
            -cdist(graph.appearance, graph.appearance, "sqeuclidean") / (2 * self.color_width**2)
        )
        weights = graph.areas / graph.areas.mean()
        side = np.sqrt(graph.areas.mean())
        cut_costs = self.edge * graph.lengths / side * np.exp(-graph.steps / self.edge_width)
        chosen = (nearness > 0) | certain
        for _ in range(self.rounds):
            if chosen.all():
                break
            inside = usual_density(kernel, graph.areas * (1.0 + certain) * chosen)
            outside = usual_density(kernel, graph.areas * ~chosen)
            favour = self.color * np.log(inside / outside) + nearness - detour
            favour = np.where(certain, _HARD, favour * weights)
            before, chosen = chosen, minimum_cut(graph, favour, cut_costs)
            if (chosen == before).all():
                break
        return chosen

    def _nearness(self, graph: RegionGraph, places: Array, hull: Array) -> Array:
        """(R,) float, 1 at the points, 0 at `reach` of their spread, not below -3."""
        spread = float(pdist(places.astype(float)).mean()) if len(places) > 1 else 0.0
        spread = max(spread, _MIN_SPREAD * min(hull.shape))
        away = ndimage.distance_transform_edt(~hull)
        flat = graph.region_of_pixel.ravel()
        mean = np.bincount(flat, away.ravel()) / graph.areas
        return np.asarray(np.clip(1 - mean / (self.reach * spread), -3, 1))

    def _tidy(self, mask: Array, places: Array) -> Array:
        """Keep what hangs together with a point; fill small holes."""
        parts, _ = ndimage.label(mask)
        mask = np.isin(parts, np.unique(parts[places[:, 1], places[:, 0]]))
        gaps, count = ndimage.label(~mask)
        hole = np.bincount(gaps.ravel(), minlength=count + 1) <= self.largest_hole * mask.size
        rim = np.concatenate([gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]])
        hole[rim] = False
        hole[0] = False
        return np.asarray(mask | hole[gaps])


def _hull(places: Array, shape: tuple[int, ...]) -> Array:
    """(H, W) bool: the points and the polygon between them, in the order given."""
    hull = np.zeros(shape, dtype=bool)
    inside = polygon(places[:, 1], places[:, 0], shape)  # type: ignore[no-untyped-call, unused-ignore]
    hull[inside] = True
    hull[places[:, 1], places[:, 0]] = True
    return hull


def _certain(graph: RegionGraph, places: Array, hull: Array) -> Array:
    """(R,) bool: regions that a point is on, or that lie mostly between the points."""
    certain = np.bincount(graph.region_of_pixel.ravel(), hull.ravel()) > 0.5 * graph.areas
    certain[graph.region_of_pixel[places[:, 1], places[:, 0]]] = True
    return certain


def _color_path(graph: RegionGraph, certain: Array) -> Array:
    """(R,) float: smallest sum of colour steps on a way from a certain region to each."""
    count = len(graph.areas)
    steps = np.minimum(graph.steps, 30.0) + 0.3  # a step of 0 would not be an edge
    ways = sparse.coo_matrix((steps, (graph.first, graph.second)), shape=(count, count)).tocsr()
    reached = csgraph.dijkstra(ways, directed=False, indices=np.flatnonzero(certain), min_only=True)
    return np.asarray(reached)
