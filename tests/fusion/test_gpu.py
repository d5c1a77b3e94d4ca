"""Fusion on a CUDA device gives what it gives on the CPU, and stays on the device."""

from __future__ import annotations

import pytest
import torch

from pcdistill.fusion import (
    MultiViewAccumulator,
    average_features,
    fuse_features,
    linear_features,
    predict_labels,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_every_way_of_fusing():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 500, 16, generator=generator)
    words = torch.randn(7, 16, generator=generator)
    capability = torch.rand(3, 7, generator=generator)
    seen = torch.rand(3, 500, generator=generator) < 0.8
    labels = predict_labels(features, words)
    there = [tensor.cuda() for tensor in (features, words, capability, seen, labels)]
    assert torch.equal(predict_labels(there[0], there[1]).cpu(), labels)
    pairs = [
        (average_features(there[0], there[3]), average_features(features, seen)),
        (linear_features(there[0], there[1], there[3]), linear_features(features, words, seen)),
        (linear_features(there[0], there[1]), linear_features(features, words)),
        (
            fuse_features(there[0], there[4], there[2], seen=there[3]),
            fuse_features(features, labels, capability, seen=seen),
        ),
    ]
    for device, host in pairs:
        assert device.is_cuda
        torch.testing.assert_close(device.cpu(), host)


def test_accumulation():
    results = []
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(0)
        accumulator = MultiViewAccumulator(100, 8, device=device)
        for _ in range(5):
            seen = torch.randperm(100, generator=generator)[:60].to(device)
            masks = torch.randint(-1, 4, (60,), generator=generator).to(device)
            embeddings = torch.randn(4, 8, generator=generator).to(device)
            accumulator.add_masks(seen, masks, embeddings)
            accumulator.add_features(seen, embeddings[masks.clamp(min=0)])
        results.append(accumulator.result(dtype=torch.float32))
    assert results[1].features.is_cuda
    assert torch.equal(results[0].seen, results[1].seen.cpu())
    torch.testing.assert_close(results[0].features, results[1].features.cpu())
