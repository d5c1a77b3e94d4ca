"""Streaming mean of one teacher's features per point over all views."""

from __future__ import annotations

import mmap
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import iter_feature_samples, require_finite, require_shape

_CHUNK_ELEMENTS = 1 << 19
"""Float32 elements of the sums that are turned into means at a time: 2 MiB."""
_MERGE_AT_LEAST = 1 << 20
"""Pending (point, embedding) observations below which merging them is not worth a sort."""
_KEY_TOLERANCE = 2e-3
"""How far an embedding may be from an earlier one of the same key: two half-precision steps."""


class PointFeatures(NamedTuple):
    """One teacher's features of the points that have one."""

    features: Tensor
    """(M, D) float16 unless another type was asked for."""
    seen: Tensor
    """(M,) int64, ascending index of the point of each row."""


class MultiViewAccumulator:
    """Streaming mean over the frames that see a point, for dense teachers and mask teachers.

    A point's feature is the sum of what each frame says about it, divided by the number of frames
    that see it. Dense samples are summed in float32. Of a mask teacher only how often each point
    fell into a mask of each embedding is kept; embeddings are multiplied in once, at the end. In
    memory are therefore (N, D) sums for a dense teacher (of which the CPU backs only the rows of
    seen points), or one number per distinct pair of point and embedding for a mask teacher: never
    an (H, W, D) map, and nothing that grows with the number of frames. The order of the frames
    changes the result by rounding only.

    A mask teacher may have nothing to say about a point that a frame sees (mask -1). Such a
    frame counts in the mean as a zero vector, exactly as if masks had been painted into a zero
    (H, W, D) map, so a teacher that is often silent on a point ends with a shorter vector. Points
    on which it is always silent are left out of the result by default: a zero row is similar to
    nothing and would be taken for the first class. (The release keeps them.) So are, where
    `min_spoken` says so, those on which it is silent nearly always: a mask that reaches beyond its
    object in one view of many is no word about what lies behind.

    Source: OpenScene, section 3.1 (multi-view average); SAS, section 3.1.
    """

    def __init__(
        self,
        points: int,
        dimensions: int,
        *,
        min_spoken: float = 0.0,
        groups: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start with no view of `points` points (N) in `dimensions` channels (D).

        Args:
            points: N.
            dimensions: D.
            min_spoken: share of the views of a point, in [0, 1], in which something must be said
                about it for the point to be in the result.
            groups: (N,) integer from 0, points of which that share is counted together, such as
                superpoints; None counts each by itself.
            device: of the sums.

        Raises:
            ValueError: a negative number of points, no channels, or no share.
        """
        if not 0 <= min_spoken <= 1:
            raise ValueError(f"min_spoken is {min_spoken}, expected a share in [0, 1]")
        if groups is not None:
            require_shape("groups", groups, points)
            groups = groups.to(device).long()
        if points < 0 or dimensions < 1:
            raise ValueError(
                f"points={points} and dimensions={dimensions}, expected points >= 0 and "
                "dimensions >= 1"
            )
        self.points = points
        self.dimensions = dimensions
        self.min_spoken = min_spoken
        self._groups = groups
        self.device = torch.device(device)
        self._forget()

    def _forget(self) -> None:
        """Reset to no view."""
        self._views = torch.zeros(self.points, dtype=torch.int32, device=self.device)
        self._spoken = torch.zeros(self.points, dtype=torch.int32, device=self.device)
        self._sums: Tensor | None = None
        self._memory: mmap.mmap | None = None
        self._given_back = 0
        self._row_of_key: dict[Hashable, int] = {}
        self._table: list[Tensor] = []
        self._pairs = torch.zeros(0, dtype=torch.int64, device=self.device)
        self._counts = torch.zeros(0, dtype=torch.int64, device=self.device)
        self._pending: list[Tensor] = []
        self._pending_size = 0

    @property
    def views(self) -> Tensor:
        """(N,) int32, the number of frames that see each point, silent ones included."""
        return self._views.clone()

    def add_features(self, seen: Tensor, samples: Tensor) -> None:
        """Add one frame of a dense teacher.

        Args:
            seen: (M,) int64, the points that this frame sees, each once, in any order.
            samples: (M, D) floating, the teacher's feature at each of them.

        Raises:
            ValueError: shapes differ from the above, a point is out of range or given twice, a
                sample is not finite.
        """
        seen = self._checked_points(seen)
        require_shape("samples", samples, len(seen), self.dimensions)
        values = samples.to(self.device, torch.float32)
        if not torch.isfinite(values.sum()):
            require_finite("samples", samples)
        self._sums_of_features().index_add_(0, seen, values)
        self._views[seen] += 1
        self._spoken[seen] += 1

    def add_map(
        self,
        seen: Tensor,
        pixels: Tensor,
        feature_map: Tensor,
        image_size: tuple[int, int],
        *,
        align_corners: bool = False,
        covered: tuple[float, float] | None = None,
    ) -> None:
        """Add one frame of a dense teacher, straight from its map at its own resolution.

        Equal to `add_features` with what upsampling the map to the image and indexing it at the
        pixels gives, but a few rows of the map are looked at at a time: beyond the sums it needs
        a few MiB, whatever H, W, h, w and M are.

        Args:
            seen: (M,) int64, the points that this frame sees, each once, in any order.
            pixels: (M, 2) int64, (column, row) of each in the image.
            feature_map: (D, h, w) floating, at any resolution.
            image_size: (H, W) of the image that the map describes.
            align_corners: as in `torch.nn.functional.interpolate`.
            covered: (H, W) pixels that the map spans, as in `sample_feature_map`.

        Raises:
            ValueError: shapes differ from the above, a point is out of range or given twice, a
                pixel is outside the image, or the map is not finite where it is looked at (then
                parts of the frame are in the sums: begin anew).
        """
        seen = self._checked_points(seen)
        require_shape("pixels", pixels, len(seen), 2)
        require_shape("feature_map", feature_map, self.dimensions, None, None)
        on_map = pixels.to(feature_map.device)
        strips = iter_feature_samples(
            feature_map, image_size, on_map, align_corners=align_corners, covered=covered
        )
        for index, samples in strips:
            if not torch.isfinite(samples.sum()):
                require_finite("feature_map", feature_map)
            points = seen[index.to(self.device)]
            self._sums_of_features().index_add_(0, points, samples.to(self.device))
        self._views[seen] += 1
        self._spoken[seen] += 1

    def add_masks(
        self,
        seen: Tensor,
        mask_of_point: Tensor,
        embeddings: Tensor,
        keys: Sequence[str] | None = None,
    ) -> None:
        """Add one frame of a teacher of masks.

        Args:
            seen: (M,) int64, the points that this frame sees, each once, in any order.
            mask_of_point: (M,) int64 row of `embeddings`, -1 where the teacher says nothing.
            embeddings: (m, D) floating, one a mask.
            keys: m texts that stand for the embeddings (the captions they encode): masks with
                the same key, in this frame or another, share one embedding. Without keys only
                bitwise equal embeddings are shared.

        Raises:
            ValueError: shapes differ from the above, an index is out of range, a point is given
                twice, an embedding is not finite, or one key stands for two embeddings.
        """
        seen = self._checked_points(seen)
        require_shape("mask_of_point", mask_of_point, len(seen))
        require_shape("embeddings", embeddings, None, self.dimensions)
        require_finite("embeddings", embeddings)
        masks = mask_of_point.to(self.device).long()
        count = len(embeddings)
        if masks.numel() and not (int(masks.min()) >= -1 and int(masks.max()) < count):
            raise ValueError(
                f"mask_of_point ranges from {int(masks.min())} to {int(masks.max())}, expected "
                f"-1 to {count - 1} as there are {count} embeddings"
            )
        if keys is not None and len(keys) != count:
            raise ValueError(f"{len(keys)} keys for {count} embeddings, expected one each")
        rows = self._rows_of(embeddings.detach().float().cpu(), keys).to(self.device)
        speaks = masks >= 0
        points = seen[speaks]
        self._views[seen] += 1
        self._spoken[points] += 1
        self._pending.append(points << 32 | rows[masks[speaks]])
        self._pending_size += len(points)
        if self._pending_size > max(_MERGE_AT_LEAST, len(self._pairs)):
            self._merge()

    def result(
        self, *, dtype: torch.dtype = torch.float16, keep_zero_rows: bool = False
    ) -> PointFeatures:
        """Mean over the views so far; more frames may be added afterwards.

        Args:
            dtype: floating type of the features; the mean is formed in float32.
            keep_zero_rows: also return the points that are seen but never spoken about, as zeros.
        """
        seen = (self._views > 0 if keep_zero_rows else self._told()).nonzero()[:, 0]
        features = torch.empty((len(seen), self.dimensions), dtype=dtype, device=self.device)
        self._write_means(seen, features)
        return PointFeatures(features, seen)

    def finish(self) -> PointFeatures:
        """`result()` as float16, written over the sums where there are any: no second table.

        The accumulator is then as new. The features lie at the beginning of the sums' memory,
        which is freed with them.
        """
        seen = self._told().nonzero()[:, 0]
        if self._sums is None:
            features = self.result().features
        else:  # row k of the result ends before the sum of the k-th seen point begins or ends
            halves = self._sums.view(torch.float16).view(-1)
            size = len(seen) * self.dimensions
            features = halves[:size].view(len(seen), self.dimensions)
            self._write_means(seen, features, over_sums=True)
        self._forget()
        return PointFeatures(features, seen)

    def _told(self) -> Tensor:
        """(N,) bool: points about which enough views say something."""
        spoken, views = self._spoken, self._views
        if self._groups is not None:
            spoken, views = (
                torch.bincount(self._groups, weights=counts.double())[self._groups]
                for counts in (spoken, views)
            )
        return (self._spoken > 0) & (spoken >= self.min_spoken * views)

    def _write_means(self, seen: Tensor, features: Tensor, *, over_sums: bool = False) -> None:
        """Fill `features` (M, D) with the means of ascending points `seen` (M,), in that order.

        Where `over_sums`, the features lie at the beginning of the sums, whose memory is given back
        as soon as it is read.
        """
        self._merge()
        table = torch.stack(self._table).to(self.device) if self._table else None
        step = max(1, _CHUNK_ELEMENTS // self.dimensions)
        for start in range(0, len(seen), step):
            points = seen[start : start + step]
            total = self._mask_sums(points, table)
            if self._sums is not None:
                total += self._sums[points]
            features[start : start + step] = total.div_(self._views[points, None])
            if over_sums:
                written = min(start + step, len(seen)) * self.dimensions * 2
                self._give_back(written, int(points[-1] + 1) * self.dimensions * 4)

    def _give_back(self, begin: int, end: int) -> None:
        """Give the whole pages between two bytes of the sums back to the system."""
        if self._memory is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = -(-max(begin, self._given_back) // mmap.PAGESIZE) * mmap.PAGESIZE
        size = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if size > 0:
            self._memory.madvise(mmap.MADV_DONTNEED, first, size)
            self._given_back = first + size

    def _sums_of_features(self) -> Tensor:
        """(N, D) float32; on the CPU, rows that are never written take no memory."""
        if self._sums is None:
            shape = (self.points, self.dimensions)
            size = self.points * self.dimensions
            if self.device.type == "cpu" and size > 0:  # zeros that are backed when written
                # shared memory would stay when it is given back
                private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
                self._memory = mmap.mmap(-1, 4 * size, flags=private)
                self._sums = torch.frombuffer(self._memory, dtype=torch.float32).view(shape)
            else:
                self._sums = torch.zeros(shape, device=self.device)
        return self._sums

    def _checked_points(self, seen: Tensor) -> Tensor:
        """`seen` on our device, after checking that it names distinct points of ours."""
        require_shape("seen", seen, None)
        if seen.is_floating_point() or seen.dtype == torch.bool:
            raise ValueError(f"seen is {seen.dtype}, expected integer point indices")
        seen = seen.to(self.device).long()
        if seen.numel() == 0:
            return seen
        if int(seen.min()) < 0 or int(seen.max()) >= self.points:
            raise ValueError(
                f"seen ranges from {int(seen.min())} to {int(seen.max())}, expected 0 to "
                f"{self.points - 1} as there are {self.points} points"
            )
        marked = torch.zeros(self.points, dtype=torch.bool, device=self.device)
        marked[seen] = True
        distinct = int(marked.sum())
        if distinct != len(seen):
            raise ValueError(
                f"seen names {len(seen)} points of which {distinct} are distinct, expected each "
                "point at most once a frame"
            )
        return seen

    def _rows_of(self, embeddings: Tensor, keys: Sequence[str] | None) -> Tensor:
        """Rows (m,) int64 of the embedding table, appending those not yet there."""
        rows = []
        for index, embedding in enumerate(embeddings):
            key: Hashable = embedding.numpy().tobytes() if keys is None else keys[index]
            row = self._row_of_key.setdefault(key, len(self._table))
            if row == len(self._table):
                self._table.append(embedding.clone())
            elif keys is not None:
                distance = float((self._table[row] - embedding).abs().max())
                if distance > _KEY_TOLERANCE:
                    raise ValueError(
                        f"key '{key!s}' stood for another embedding before (they differ by "
                        f"{distance:.3g}), expected one embedding per key"
                    )
            rows.append(row)
        return torch.tensor(rows, dtype=torch.int64)

    def _merge(self) -> None:
        """Fold the pending observations into one count per pair of point and embedding."""
        if not self._pending:
            return
        pending = torch.cat([self._pairs, *self._pending])
        counts = torch.ones_like(pending)
        counts[: len(self._pairs)] = self._counts
        self._pairs, position = torch.unique(pending, return_inverse=True)
        self._counts = torch.zeros_like(self._pairs).index_add_(0, position, counts)
        self._pending, self._pending_size = [], 0

    def _mask_sums(self, points: Tensor, table: Tensor | None) -> Tensor:
        """Sum (M, D) float32 of the embeddings that frames gave to ascending `points` (M,)."""
        if table is None or len(points) == 0:
            return torch.zeros((len(points), self.dimensions), device=self.device)
        bounds = torch.stack([points[0], points[-1] + 1]) << 32
        start, stop = torch.searchsorted(self._pairs, bounds).tolist()
        pairs, counts = self._pairs[start:stop], self._counts[start:stop]
        point_of_pair = pairs >> 32
        row = torch.searchsorted(points, point_of_pair)
        mine = points[row] == point_of_pair  # others lie between, spoken about too seldom
        return functional.embedding_bag(
            pairs[mine] & 0xFFFFFFFF,
            table,
            torch.searchsorted(point_of_pair[mine], points),
            mode="sum",
            per_sample_weights=counts[mine].float(),
        )
