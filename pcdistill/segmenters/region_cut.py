"""Minimum cuts between the regions of an image, and densities of what they look like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from pcdistill.segmenters.region_graph import RegionGraph

Array = NDArray[Any]


def usual_density(kernel: Array, areas: Array) -> Array:
    """(R,) float: how usual each region's appearance is among `areas`, never quite 0."""
    return np.asarray(kernel @ areas / areas.sum() + 1e-3)


def minimum_cut(graph: RegionGraph, favour: Array, cut_costs: Array) -> Array:
    """Regions (R,) bool that maximise the sum of `favour` inside minus the cost of their rim.

    Args:
        graph: R regions, E pairs.
        favour: (R,) what is gained by having each region inside; may be negative.
        cut_costs: (E,) what is lost if only one of a pair is inside.
    """
    count = len(graph.areas)
    source, sink = count, count + 1
    each = np.arange(count)
    origin = np.concatenate([np.full(count, source), each, graph.first, graph.second])
    target = np.concatenate([each, np.full(count, sink), graph.second, graph.first])
    costs = np.concatenate([np.maximum(favour, 0), np.maximum(-favour, 0), cut_costs, cut_costs])
    capacity = np.minimum(np.rint(1000 * costs), 2**30).astype(np.int32)
    network = sparse.coo_matrix((capacity, (origin, target)), shape=(count + 2, count + 2)).tocsr()
    left = network - csgraph.maximum_flow(network, source, sink).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = csgraph.breadth_first_order(left, source, return_predecessors=False)
    inside = np.zeros(count + 2, dtype=bool)
    inside[reached] = True
    return inside[:count]
