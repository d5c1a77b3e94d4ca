"""Views of the grid: what they share with a scene that was really turned."""

from __future__ import annotations

import torch

from pcdistill.distillation.batch_cache import KEPT_BYTES, VoxelBatchCache
from pcdistill.distillation.batches import (
    StudentInput,
    TrainingScene,
    input_features,
    make_voxel_batch,
)
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.networks import build_student
from pcdistill.sparse import SparseTensor
from tests.tolerances import FLOAT32_SUMS

VOXEL = 0.1
REUSES = 2


def scene(seed: int = 0, points: int = 400) -> TrainingScene:
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(points, 3, generator=generator) * torch.tensor([2.0, 1.0, 0.3])
    normals = torch.nn.functional.normalize(torch.randn(points, 3, generator=generator), dim=1)
    colors = torch.randint(0, 256, (points, 3), generator=generator, dtype=torch.uint8)
    return TrainingScene(
        f"s{seed}",
        position,
        torch.zeros(points, dtype=torch.int64),
        torch.ones(1, 4),
        torch.ones(points, dtype=torch.bool),
        None,
        normals,
        colors,
    )


def views(turn: bool, **changes) -> VoxelBatchCache:
    arguments = {
        "turn": turn,
        "seed": 3,
        "device": torch.device("cpu"),
        "revoxelize_every": REUSES,
    } | changes
    return VoxelBatchCache(SceneSource.of([scene(0), scene(1)]), VOXEL, **arguments)


def test_without_turning_a_scene_is_what_it_is():
    one = scene(0)
    expected = make_voxel_batch([StudentInput(one.points, one.normals, one.colors)], VOXEL)
    found = views(turn=False).sample(0, 0, None)
    assert torch.equal(found.coords, expected.coords)
    assert torch.equal(found.features, expected.features)
    assert found.maps is not None


def test_the_same_draws_give_the_same_view_whatever_came_before():
    fresh, used = views(turn=True), views(turn=True)
    generator = torch.Generator().manual_seed(9)
    for epoch, number in enumerate((0, 1, 1, 0, 0, 1)):
        used.sample(number, epoch, used.draw(generator))
    first = fresh.sample(1, 7, fresh.draw(torch.Generator().manual_seed(5)))
    second = used.sample(1, 7, used.draw(torch.Generator().manual_seed(5)))
    assert torch.equal(first.coords, second.coords)
    assert torch.equal(first.features, second.features)


def test_every_side_is_seen_and_kernel_maps_serve_several_epochs():
    source = views(turn=True)
    generator = torch.Generator().manual_seed(1)
    sides, grids = set(), []
    for epoch in range(2 * REUSES):
        for _ in range(60):
            batch = source.sample(0, epoch, source.draw(generator))
            grids.append(batch.maps.kernel_map(1, 1, 3).table.rows)
            if epoch == 0:
                sides.add(tuple(batch.features[0, :2].tolist()))
        source.sample(1, epoch, source.draw(generator))
    assert len(sides) == 8
    first, second = grids[: 60 * REUSES], grids[60 * REUSES :]
    assert all(grid is first[0] for grid in first)
    assert all(grid is second[0] for grid in second)
    assert not torch.equal(first[0], second[0])


def test_the_bound_on_what_is_kept_holds():
    generator = torch.Generator().manual_seed(1)
    none, all_of_it = views(turn=True, kept_bytes=0), views(turn=True)
    for source in (none, all_of_it):
        for epoch in range(3 * REUSES):
            for number in (0, 1):
                source.sample(number, epoch, source.draw(generator)).maps.kernel_map(1, 1, 3)
    assert not none._kept
    used = sum(batch.maps.nbytes for _, batch in all_of_it._kept.values())
    assert all_of_it._free_bytes == KEPT_BYTES - used


def test_a_view_is_the_scene_really_turned():
    """The student's output on a view equals that on the turned points, voxel by voxel."""
    network = build_student("MinkUNet14A", 7, 6, width=0.125).eval()
    source = views(turn=True)
    generator = torch.Generator().manual_seed(2)
    for _ in range(6):
        batch = source.sample(0, 0, source.draw(generator))
        turn = batch.maps._turn
        one = scene(0)
        coords = torch.cat([batch.coords[:, :1], turn.cells(batch.coords[:, 1:])], dim=1)
        normals = one.normals @ turn.matrix().T.float()
        plain = input_features(StudentInput(one.points, normals, one.colors))[
            batch.representative[0]
        ]
        torch.testing.assert_close(batch.features[:, :4], plain[:, :4])
        gain = (batch.features[:, 4:] + 1) / (plain[:, 4:] + 1).clamp(min=1e-6)
        dark = plain[:, 4:] < 0.5  # not cut off by the tint
        for channel in range(3):
            values = gain[dark[:, channel], channel]
            values = values[values > 0]
            assert float(values.min()) > 0.74
            assert float(values.max()) < 1.26
            assert float(values.max() - values.min()) < 1e-3
        with torch.no_grad():
            found = network(SparseTensor(batch.features, batch.coords, maps=batch.maps))
            expected = network(SparseTensor(batch.features, coords))
        # float32 sums in another order, through a whole network
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=FLOAT32_SUMS)
