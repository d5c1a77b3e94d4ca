"""The networks equal the reference: names, sizes, outputs, gradients, running statistics."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch

from pcdistill.networks import MinkUNet, build_student
from pcdistill.sparse import SparseTensor
from tests.conftest import golden_cases, load_npz

FLOAT64 = 1e-6  # of the largest entry per array: storage rounding
FLOAT32 = 1e-4  # of the largest entry; outputs and buffers
FLOAT32_GRADIENT = 1e-2  # relative L2 norm, ReLU kinks


def assert_close_to_largest(have, want, tolerance):
    want = torch.as_tensor(want)
    largest = float(want.abs().max()) if want.numel() else 0.0
    torch.testing.assert_close(have.detach().to(want.dtype), want, rtol=0, atol=tolerance * largest)


def narrow_network(case: dict[str, np.ndarray]) -> MinkUNet:
    network = build_student(
        "MinkUNet14A",
        case["feats"].shape[1],
        case["upstream"].shape[1],
        planes=case["planes"].tolist(),
        stem_channels=int(case["init_dim"]),
        layers=case["layers"].tolist(),
    )
    state = {k[3:]: torch.from_numpy(np.asarray(v)) for k, v in case.items() if k[:3] == "sd."}
    network.load_state_dict(state, strict=True)
    assert list(network.state_dict()) == [key[3:] for key in case if key.startswith("sd.")]
    return network


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("file", golden_cases("mink_unet/narrow*.npz"))
def test_narrow_network_in_eval_mode(file, dtype):
    case = load_npz(file)
    network = narrow_network(case).to(dtype).eval()
    feats, coords = torch.from_numpy(case["feats"]).to(dtype), torch.from_numpy(case["coords"])
    x = SparseTensor(feats, coords)
    tolerance = FLOAT64 if dtype == torch.float64 else FLOAT32
    with torch.no_grad():
        assert_close_to_largest(network(x), case["eval_out"], tolerance)
        ones = SparseTensor(torch.ones_like(feats), coords, maps=x.maps)  # maps used again
        assert_close_to_largest(network(ones), case["eval_out_ones"], tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("file", golden_cases("mink_unet/narrow*.npz"))
def test_narrow_network_in_train_mode(file, dtype):
    case = load_npz(file)
    network = narrow_network(case).to(dtype).train()
    feats = torch.from_numpy(case["feats"]).to(dtype).requires_grad_()
    out = network(SparseTensor(feats, torch.from_numpy(case["coords"])))
    (out * torch.from_numpy(case["upstream"]).to(dtype)).sum().backward()
    double = dtype == torch.float64
    tolerance = FLOAT64 if double else FLOAT32
    assert_close_to_largest(out, case["train_out"], tolerance)
    buffers = dict(network.named_buffers())
    for key in (key for key in case if key.startswith("after.")):
        assert_close_to_largest(buffers[key[6:]], case[key], tolerance)
    gradients = {f"grad.{name}": p.grad for name, p in network.named_parameters()}
    gradients["train_grad_feats"] = feats.grad
    assert {key for key in case if key.startswith("grad.")} | {"train_grad_feats"} == set(gradients)
    for key, gradient in gradients.items():
        want = torch.from_numpy(case[key])
        if double:
            assert_close_to_largest(gradient, want, FLOAT64)
        else:
            assert (gradient - want).norm() <= FLOAT32_GRADIENT * want.norm(), key


@pytest.mark.parametrize("file", golden_cases("mink_unet/state_dict_manifest.json"))
def test_state_dict_and_initialization_follow_the_manifest(file):
    for entry in json.loads(file.read_text()).values():
        generator = torch.Generator().manual_seed(1)
        network = build_student(
            entry["arch"], entry["in_channels"], entry["out_channels"], generator=generator
        )
        state = network.state_dict()
        have = [
            [f"net3d.{key}", list(value.shape), str(value.dtype).split(".")[1]]
            for key, value in state.items()
        ]
        assert have == entry["keys"]
        parameters = dict(network.named_parameters())
        assert [f"net3d.{key}" for key in parameters] == entry["parameter_keys"]
        assert sum(p.numel() for p in parameters.values()) == entry["n_parameters"]
        for key, (mean, std, largest) in entry["default_init"].items():
            kernel = parameters[key.removeprefix("net3d.")].detach()
            noise = 5 * std / kernel.numel() ** 0.5  # both are draws of the same law
            assert abs(float(kernel.mean()) - mean) < 2 * noise, key
            assert abs(float(kernel.std()) - std) < noise, key
            assert abs(float(kernel.abs().max()) - largest) < 0.3 * largest, key


def recipe(key: str, shape: torch.Size) -> np.ndarray:
    """Weights of the full-size fixture, as its README describes."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[1]
    if leaf == "kernel":
        fan = shape[0] if len(shape) == 2 else shape[1] * 0.35 * shape[0]
        return (random.standard_normal(tuple(shape)) * np.sqrt(1.6 / fan)).astype(np.float32)
    if leaf in ("running_mean", "bias"):
        return (0.3 * random.standard_normal(tuple(shape))).astype(np.float32)
    if leaf in ("running_var", "weight"):
        return (0.5 + random.random_sample(tuple(shape))).astype(np.float32)
    return np.zeros(tuple(shape), dtype=np.int64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("file", golden_cases("mink_unet/full_size*.npz"))
def test_full_size_network(file, dtype):
    case = load_npz(file)
    network = build_student(str(case["arch"]), case["feats"].shape[1], case["eval_out"].shape[1])
    state = {
        key: torch.from_numpy(recipe(f"net3d.{key}", value.shape))
        for key, value in network.state_dict().items()
    }
    for key, checksum in zip(case["checksum_keys"], case["checksum_crc32"], strict=True):
        array = state[str(key).removeprefix("net3d.")].numpy()
        assert zlib.crc32(array.astype("<f4").tobytes()) == int(checksum)
    network.load_state_dict(state, strict=True)
    network.to(dtype).eval()
    feats, coords = torch.from_numpy(case["feats"]).to(dtype), torch.from_numpy(case["coords"])
    with torch.no_grad():
        out = network(SparseTensor(feats, coords))
    assert_close_to_largest(out, case["eval_out"], 1e-6 if dtype == torch.float64 else 1e-4)
