"""Every scene is in one batch of an epoch, and batches are as balanced as their order promises."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.distillation.batch_order import make_batches

SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=40)
BATCH, SEED = st.integers(1, 12), st.integers(0, 2**31)
ORDERS = ("random", "even", "alike")
FEW = settings(max_examples=20, deadline=None)


def drawn(sizes, batch_size, order, seed) -> list[list[int]]:
    return make_batches(sizes, batch_size, order, torch.Generator().manual_seed(seed))


@given(sizes=SIZES, batch=BATCH, order=st.sampled_from(ORDERS), seed=SEED)
@FEW
def test_every_scene_is_in_one_of_as_few_batches_as_can_be(sizes, batch, order, seed):
    batches = drawn(sizes, batch, order, seed)
    assert sorted(scene for one in batches for scene in one) == list(range(len(sizes)))
    assert len(batches) == -(-len(sizes) // batch)
    assert all(0 < len(one) <= batch for one in batches)
    assert batches == drawn(sizes, batch, order, seed)


@given(sizes=SIZES, batch=BATCH, seed=SEED)
@FEW
def test_even_batches_differ_by_at_most_the_largest_scene(sizes, batch, seed):
    loads = [sum(sizes[s] for s in one) for one in drawn(sizes, batch, "even", seed)]
    assert max(loads) - min(loads) <= max(sizes)


@given(seed=SEED, batch=st.integers(1, 5))
@FEW
def test_scenes_of_like_size_share_a_batch(seed, batch):
    """Kinds of scenes that differ by more than the noise are never mixed."""
    kind = torch.arange(4).repeat(batch * 2)  # of each scene
    sizes = (100 * 1.6**kind).long().tolist()
    batches = drawn(sizes, batch, "alike", seed)
    assert all(len({int(kind[s]) for s in one}) == 1 for one in batches)


def test_batches_change_from_epoch_to_epoch():
    sizes = list(range(100, 130))
    for order in ORDERS:
        one, other = (drawn(sizes, 3, order, seed) for seed in (0, 1))
        assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in other}
    batches = [[sizes[scene] for scene in batch] for batch in drawn(sizes, 3, "even", 2)]
    assert len({batch.index(max(batch)) for batch in batches}) == 3  # the largest is anywhere


def test_a_random_order_asks_for_no_sizes():
    order = torch.randperm(5, generator=torch.Generator().manual_seed(7)).tolist()
    assert drawn([0] * 5, 2, "random", 7) == [order[:2], order[2:4], order[4:]]
