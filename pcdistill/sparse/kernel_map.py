"""Which voxel meets which under each offset of a convolution kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.sparse.voxel_keys import Bounds, KeySpace


def kernel_offsets(kernel_size: int, dilation: int = 1) -> tuple[tuple[int, int, int], ...]:
    """Offsets of a cubic kernel in cells of the input, in the order of the weight slices.

    x runs fastest, then y, then z. An odd kernel is centred, an even one starts at the voxel.

    Source: MinkowskiEngine 0.5.4, region type HYPER_CUBE (order found by impulse tests).
    """
    start = -(kernel_size // 2) if kernel_size % 2 else 0
    steps = [dilation * (start + i) for i in range(kernel_size)]
    return tuple((x, y, z) for z in steps for y in steps for x in steps)


class GridTurn(NamedTuple):
    """A turn or mirroring that takes the voxel grid onto itself."""

    axes: tuple[int, int, int] = (0, 1, 2)
    """Axis that is found on x, y and z afterwards."""
    flips: tuple[bool, bool, bool] = (False, False, False)
    """Whether it then runs backwards: cell c becomes cell -1 - c."""

    def matrix(self) -> Tensor:
        """(3, 3) float64 that turns directions: turned = matrix @ direction."""
        turn = torch.zeros(3, 3, dtype=torch.float64)
        for row, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            turn[row, axis] = -1.0 if flip else 1.0
        return turn

    def cells(self, coords: Tensor) -> Tensor:
        """(V, 3) integer cells after the turn."""
        turned = coords[:, list(self.axes)]
        return torch.where(torch.tensor(self.flips, device=coords.device), -1 - turned, turned)


@lru_cache(maxsize=256)
def turned_slices(
    turn: GridTurn, kernel_size: int, stride: int, dilation: int = 1
) -> tuple[int, ...]:
    """Slice of the weights that each offset takes when the grid is turned.

    Raises:
        ValueError: an odd kernel with a stride has no counterpart in a grid that runs backwards.
    """
    if kernel_size % 2 and stride > 1 and any(turn.flips):
        raise ValueError(
            f"a kernel of size {kernel_size} and stride {stride} cannot be mirrored on the grid; "
            "mirror the points instead"
        )
    offsets = kernel_offsets(kernel_size, dilation)
    number = {offset: k for k, offset in enumerate(offsets)}
    last = 0 if kernel_size % 2 else dilation * (kernel_size - 1)

    def turned(offset: tuple[int, int, int]) -> tuple[int, int, int]:
        x, y, z = (
            last - offset[axis] if flip else offset[axis]
            for axis, flip in zip(turn.axes, turn.flips, strict=True)
        )
        return x, y, z

    return tuple(number[turned(offset)] for offset in offsets)


@dataclass(frozen=True)
class BlockPlan:
    """The pairs of a kernel map grouped by blocks of target rows, for one pass in the cache.

    Inside a block pairs are ordered by offset, then target row. With a `tile` above 1 the pairs of
    each offset are filled up with row 0 to a multiple of it; no target row counts these.
    """

    block_rows: int
    """Target rows of a block; the last block may be shorter."""
    sizes: tuple[tuple[int, ...], ...]
    """(blocks, K) number of pairs, filled up to multiples of the tile."""
    source: tuple[Tensor, ...]
    """Per block: (pairs,) int32 source row."""
    target: tuple[Tensor, ...]
    """Per block: (pairs,) int32 target row."""
    members: tuple[Tensor, ...]
    """Per block: (pairs,) int32 position in the block of the pairs of each target row in turn."""
    starts: tuple[Tensor, ...]
    """Per block: (rows,) int32 where a target row's run in `members` begins."""
    filling: tuple[Tensor, ...]
    """Per block: int64 positions that hold no pair; empty where the tile is 1."""
    skip: int | None
    """Number of the offset that is left out."""


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Pairs (source row, target row) for each of the K offsets of a kernel.

    Pairs are ordered by offset; within one offset both source and target rows ascend strictly.
    """

    source: Tensor
    """(P,) int32 row of the input."""
    target: Tensor
    """(P,) int32 row of the output."""
    counts: tuple[int, ...]
    """Pairs of each of the K offsets."""
    n_source: int
    n_target: int
    symmetric: bool = False
    """Whether the pairs of offset K-1-k are those of offset k with source and target exchanged."""
    slices: tuple[int, ...] | None = None
    """Which slice of the weights each offset takes, where it is not the one of its own number."""
    _plans: dict[tuple[int, int, int | None, bool], BlockPlan] = field(
        default_factory=dict, repr=False
    )
    _is_swapped: bool = False

    @cached_property
    def swapped(self) -> KernelMap:
        """The same pairs seen from the other side: sources become targets."""
        return KernelMap(
            self.target,
            self.source,
            self.counts,
            self.n_target,
            self.n_source,
            self.symmetric,
            self.slices,
            self._plans,
            not self._is_swapped,
        )

    @cached_property
    def target_degree(self) -> Tensor:
        """(n_target,) int64 number of pairs of each target row."""
        return torch.bincount(self.target, minlength=self.n_target)

    def with_slices(self, slices: tuple[int, ...]) -> KernelMap:
        """The same pairs, and plans, for weights whose slices are taken in another order."""
        return KernelMap(
            self.source,
            self.target,
            self.counts,
            self.n_source,
            self.n_target,
            self.symmetric,
            slices,
            self._plans,
            self._is_swapped,
        )

    def weights(self, kernel: Tensor) -> list[Tensor]:
        """K views of (C_in, C_out) into (K, C_in, C_out), in the order of the offsets."""
        own = kernel.unbind(0)
        return list(own) if self.slices is None else [own[i] for i in self.slices]

    @property
    def nbytes(self) -> int:
        """Bytes of the pairs and of the plans made so far."""
        plans = sum(
            part.nbytes
            for plan in self._plans.values()
            for parts in (plan.source, plan.target, plan.members, plan.starts, plan.filling)
            for part in parts
        )
        return self.source.nbytes + self.target.nbytes + plans

    def by_offset(self) -> list[tuple[Tensor, Tensor]]:
        """(source, target) rows of each offset."""
        sides = (torch.split_with_sizes(side, self.counts) for side in (self.source, self.target))
        return list(zip(*sides, strict=True))

    @property
    def middle(self) -> int | None:
        """Number of the offset under which every row meets itself; None where there is none."""
        return len(self.counts) // 2 if self.symmetric else None

    def plan(self, block_rows: int, tile: int = 1, skip: int | None = None) -> BlockPlan:
        """Group the pairs by blocks of `block_rows` target rows; made once and kept.

        Args:
            block_rows: target rows of a block.
            tile: what the number of pairs of an offset is filled up to a multiple of.
            skip: number of an offset that is left out.
        """
        key = (block_rows, tile, skip, self._is_swapped)
        if key not in self._plans:
            with torch.inference_mode(False):  # a later training step may use it again
                self._plans[key] = _plan(self, block_rows, tile, skip)
        return self._plans[key]


def _plan(pairs: KernelMap, block_rows: int, tile: int, skip: int | None) -> BlockPlan:
    device, n_offsets = pairs.target.device, len(pairs.counts)
    edges = torch.arange(0, pairs.n_target + block_rows, block_rows, device=device)
    edges = edges.clamp_(max=pairs.n_target).to(torch.int32)
    n_blocks = len(edges) - 1
    # Targets ascend within an offset, so a block's pairs of that offset are one slice.
    cuts = torch.stack(
        [torch.searchsorted(target, edges) for _, target in pairs.by_offset()]
    )  # (K, blocks + 1)
    sizes = cuts[:, 1:] - cuts[:, :-1]  # (K, blocks)
    slices = sizes.flatten().tolist()
    taken = [k for k in range(n_offsets) if k != skip]
    if skip is not None:
        sizes = sizes.clone()
        sizes[skip] = 0
    filled = (sizes + (tile - 1)) // tile * tile
    missing = (filled - sizes).flatten().tolist()
    regrouped = [k * n_blocks + b for b in range(n_blocks) for k in taken]
    nothing = torch.zeros(max(missing, default=0), dtype=torch.int32, device=device)
    lengths = filled.sum(dim=0).tolist()

    def by_block(rows: Tensor) -> tuple[Tensor, ...]:
        if not n_blocks:
            return ()
        parts = torch.split_with_sizes(rows, slices)
        pieces = [piece for i in regrouped for piece in (parts[i], nothing[: missing[i]])]
        if tile == 1:
            pieces = pieces[::2]
        return torch.split_with_sizes(torch.cat(pieces), lengths)

    # Where in its block each pair lands: the slices of earlier offsets come first.
    begins = filled.cumsum(dim=0) - filled - cuts[:, :-1]
    begins -= (torch.tensor(pairs.counts, device=device).cumsum(0) - cuts[:, -1])[:, None]
    local = torch.arange(len(pairs.target), dtype=torch.int32, device=device)
    local += torch.repeat_interleave(
        begins.flatten().to(torch.int32), cuts.diff(dim=1).flatten(), output_size=len(local)
    )
    # For each target row the places of its pairs, in the order of the offsets.
    degree = pairs.target_degree if skip is None else pairs.target_degree - 1
    row_first = torch.cumsum(degree, 0) - degree
    cursor = row_first.clone()
    members = local.new_empty(int(sizes.sum()))
    targets, places = pairs.by_offset(), torch.split_with_sizes(local, pairs.counts)
    for k in taken:
        target = targets[k][1]
        slot = cursor[target]
        members[slot] = places[k]
        cursor[target] = slot + 1
    runs = torch.split(row_first, block_rows) if pairs.n_target else ()
    by_member = torch.split_with_sizes(members, sizes.sum(dim=0).tolist())
    return BlockPlan(
        block_rows,
        tuple(tuple(block) for block in filled.T.tolist()),
        by_block(pairs.source),
        by_block(pairs.target),
        by_member,
        tuple((run - run[:1]).to(torch.int32) for run in runs),
        tuple(_absent(place, length) for place, length in zip(by_member, lengths, strict=True)),
        skip,
    )


def _absent(members: Tensor, length: int) -> Tensor:
    """Positions below `length` that are not among `members`, int64 ascending."""
    if len(members) == length:
        return torch.empty(0, dtype=torch.int64, device=members.device)
    free = torch.ones(length, dtype=torch.bool, device=members.device)
    free[members.long()] = False
    return free.nonzero().squeeze(1)


def find_pairs(
    in_coords: Tensor,
    out_coords: Tensor,
    bounds: Bounds,
    in_stride: int,
    out_stride: int,
    kernel_size: int,
    dilation: int,
) -> KernelMap:
    """Pair each output voxel u with the input voxels at u + d(k).

    Args:
        in_coords: (V_in, 4) int32, sorted by (batch, x, y, z), multiples of `in_stride`.
        out_coords: (V_out, 4) int32, likewise, multiples of `out_stride`.
        bounds: box around the finest voxels that both were made from.
        in_stride, out_stride: edge of a voxel in units of the finest voxel.
        kernel_size, dilation: of the cubic kernel, dilation in units of `in_stride`.
    """
    offsets = kernel_offsets(kernel_size, dilation)
    reach = max(abs(c) for offset in offsets for c in offset)
    space = KeySpace.around(bounds, in_stride, reach + out_stride // in_stride)
    keys = space.pack(_in_cells(in_coords, in_stride))
    symmetric = in_stride == out_stride and kernel_size % 2 == 1
    queries = keys if symmetric else space.pack(_in_cells(out_coords, in_stride))
    found: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}
    if symmetric:
        every = torch.arange(len(keys), device=keys.device, dtype=torch.int32)
        found[0, 0, 0] = (every, every)
    steps = sorted({offset[0] for offset in offsets})
    for x in steps:
        for y in steps:
            column = [(x, y, z) for z in steps]
            if symmetric:
                column = [offset for offset in column if offset < (0, 0, 0)]
            for offset, pair in _column_pairs(keys, queries, space, column, dilation).items():
                found[offset] = pair
                if symmetric:
                    found[-offset[0], -offset[1], -offset[2]] = (pair[1], pair[0])
    return KernelMap(
        torch.cat([found[offset][0] for offset in offsets]),
        torch.cat([found[offset][1] for offset in offsets]),
        tuple(len(found[offset][0]) for offset in offsets),
        len(in_coords),
        len(out_coords),
        symmetric,
    )


def _in_cells(coords: Tensor, stride: int) -> Tensor:
    if stride == 1:
        return coords
    cells = torch.div(coords, stride, rounding_mode="floor")
    cells[:, 0] = coords[:, 0]
    return cells


def _column_pairs(
    keys: Tensor,
    queries: Tensor,
    space: KeySpace,
    column: list[tuple[int, int, int]],
    dilation: int,
) -> dict[tuple[int, int, int], tuple[Tensor, Tensor]]:
    """Pairs of the offsets of one (x, y) column, z ascending: (source, target) by offset."""
    pairs: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}
    if len(keys) == 0 or len(queries) == 0:
        nothing = torch.empty(0, dtype=torch.int32, device=keys.device)
        return dict.fromkeys(column, (nothing, nothing))
    position: Tensor | None = None
    for offset in column:
        wanted = queries + space.delta(offset)
        if position is None or dilation > 1:
            position = torch.searchsorted(keys, wanted, out_int32=True)
        hit = keys[position.clamp(max=len(keys) - 1)] == wanted
        target = hit.nonzero().squeeze(1)
        pairs[offset] = (position[target], target.to(torch.int32))
        # Cells adjacent along z have adjacent keys: the next one, if present, is the next row.
        position = position + hit
    return pairs
