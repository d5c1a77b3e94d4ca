"""Sparse tensor: features on the occupied voxels of a batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.sparse.coordinates import CoordinateManager, RowPermutation


class SparseTensor:
    """Sparse tensor: features on the occupied voxels of a batch of scenes.

    Rows come and go in the caller's order; inside they are kept sorted by coordinate, so that
    neighbors in space are near in memory. Instances are not changed after construction.
    """

    def __init__(
        self,
        features: Tensor,
        coords: Tensor,
        stride: int = 1,
        maps: CoordinateManager | None = None,
    ) -> None:
        """Put features on voxels.

        Args:
            features: (V, C) float.
            coords: (V, 4) integer (batch, x, y, z), unique rows in any order, of either sign,
                counted in the finest voxels and therefore multiples of `stride`.
            stride: edge of these voxels in units of the coordinates.
            maps: `maps` of an earlier tensor of the same batch, to use its kernel maps again.

        Raises:
            ValueError: shapes that do not fit each other, repeated, non-integer or out-of-range
                coordinates, devices that differ, or `maps` of other voxels.
        """
        require_shape("features", features, None, None)
        if not features.is_floating_point():
            raise ValueError(f"features has dtype {features.dtype}, expected floating point")
        require_shape("coords", coords, features.shape[0], 4)
        if features.device != coords.device:
            raise ValueError(
                f"features are on {features.device} but coords on {coords.device}; move one"
            )
        if maps is None:
            maps = CoordinateManager(coords, stride)
            rows = maps.level(stride).rows
        else:
            rows = maps.row_order(coords, stride)
        self.maps = maps
        self.stride = stride
        self.rows = rows
        """How the caller's rows differ from those inside; None where they do not."""
        self.sorted_features = features if rows is None else features.index_select(0, rows.order)

    @classmethod
    def _on(
        cls,
        sorted_features: Tensor,
        stride: int,
        maps: CoordinateManager,
        rows: RowPermutation | None,
    ) -> SparseTensor:
        made = cls.__new__(cls)
        made.sorted_features, made.stride, made.maps, made.rows = (
            sorted_features,
            stride,
            maps,
            rows,
        )
        return made

    @property
    def features(self) -> Tensor:
        """(V, C) in the caller's row order, as `coords`."""
        if self.rows is None:
            return self.sorted_features
        return self.sorted_features.index_select(0, self.rows.rank)

    @property
    def coords(self) -> Tensor:
        """(V, 4) int32 (batch, x, y, z) in the caller's row order."""
        coords = self.maps.level(self.stride).coords
        return coords if self.rows is None else coords[self.rows.rank]

    def __len__(self) -> int:
        return self.sorted_features.shape[0]

    @property
    def channels(self) -> int:
        """Number of feature channels."""
        return self.sorted_features.shape[1]

    def with_sorted(self, sorted_features: Tensor) -> SparseTensor:
        """The same voxels with other features, given in the internal (sorted) row order."""
        if sorted_features.shape[0] != len(self):
            raise ValueError(
                f"features has {sorted_features.shape[0]} rows, expected {len(self)} voxels"
            )
        return SparseTensor._on(sorted_features, self.stride, self.maps, self.rows)

    def with_features(self, features: Tensor) -> SparseTensor:
        """The same voxels with other features (V, C'), given in the caller's row order."""
        if self.rows is None:
            return self.with_sorted(features)
        return self.with_sorted(features.index_select(0, self.rows.order))

    def map(self, function: Callable[[Tensor], Tensor]) -> SparseTensor:
        """Apply a function that treats every row alike to the features."""
        return self.with_sorted(function(self.sorted_features))

    def at_stride(self, sorted_features: Tensor, stride: int) -> SparseTensor:
        """Features, in sorted row order, on the voxels that the same batch has at `stride`."""
        level = self.maps.level(stride)
        rows = self.rows if stride == self.stride else level.rows
        if sorted_features.shape[0] != len(level.coords):
            raise ValueError(
                f"features has {sorted_features.shape[0]} rows, expected the "
                f"{len(level.coords)} voxels of stride {stride}"
            )
        return SparseTensor._on(sorted_features, stride, self.maps, rows)

    def __repr__(self) -> str:
        return (
            f"SparseTensor({len(self)} voxels, {self.channels} channels, stride {self.stride}, "
            f"{self.sorted_features.dtype}, {self.sorted_features.device})"
        )
