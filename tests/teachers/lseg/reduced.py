"""The reduced LSeg of the reference: its sizes, weights and recorded values."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.teachers.lseg.network import LSegNetwork, LSegSizes
from tests.conftest import load_npz


def reduced_sizes(meta_file: Path) -> LSegSizes:
    """Sizes as the file of settings has them."""
    meta = json.loads(meta_file.read_text())
    vit = meta["vit"]
    return LSegSizes(
        width=vit["embed_dim"],
        depth=vit["depth"],
        heads=vit["num_heads"],
        grid=vit["pretrain_img_size"] // vit["patch_size"],
        patch=vit["patch_size"],
        taps=tuple(meta["hooks"]),
        reassemble=tuple(meta["reassemble_channels"]),
        fusion=meta["scratch_features"],
        dimensions=meta["out_c"],
    )


def recorded(meta_file: Path, what: str) -> dict[str, Tensor]:
    """Arrays of a file beside the settings."""
    arrays = load_npz(meta_file.with_name(f"lseg_reduced_{what}.npz"))
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def reduced_network(meta_file: Path) -> LSegNetwork:
    """The network with the recorded weights."""
    network = LSegNetwork(reduced_sizes(meta_file))
    lacking, _ = network.load_state_dict(recorded(meta_file, "weights"), strict=False)
    assert not lacking
    return network.eval().requires_grad_(False)


def write_lightning(weights: dict[str, Tensor], file: Path) -> None:
    """Save weights as PyTorch Lightning does: with a prefix, beside a training's other values."""
    state = {f"net.{key}": value for key, value in weights.items()}
    torch.save(
        {
            "epoch": 199,
            "pytorch-lightning_version": "1.4.9",
            "callbacks": {},
            "hyper_parameters": {"backbone": "clip_vitl16_384", "num_features": 256},
            "state_dict": state,
        },
        file,
    )
