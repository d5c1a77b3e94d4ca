"""Conversion of student networks between OpenScene's and SAS's .pth files and our safetensors.

    python tools/convert_checkpoint.py model_best.pth.tar student.safetensors   # theirs to ours
    python tools/convert_checkpoint.py student.safetensors student.pth          # ours to theirs

The name of the output decides the layout: .safetensors is ours; .pth, .pt and .tar are a dictionary
whose 'state_dict' holds the same weights behind 'net3d.', which OpenScene's and SAS's code loads.
Architecture, width and prefixes of the input are recognised from the file. Of raw weights and their
average over training (EMA) the average is taken, unless --weights names the prefix of others. An
optimiser's state is left behind; epoch, score and the input's checksum go into the provenance.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, Literal

import torch

from pcdistill.checksums import file_sha256
from pcdistill.errors import ConfigError, PcdistillError
from pcdistill.networks import MinkUNet, load_checkpoint, save_checkpoint

LAYOUTS: dict[str, Literal["pcdistill", "minkowski"]] = {
    ".safetensors": "pcdistill",
    ".pth": "minkowski",
    ".pt": "minkowski",
    ".tar": "minkowski",
}
"""Last suffix of the output -> layout."""
RECOGNISED = ("layout", "architecture", "width", "provenance", "leftover_keys")
"""What `load_checkpoint` finds out itself; the rest of the metadata lay beside the weights."""


def main() -> None:
    """Convert one file, or say in one sentence why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="file to read, of either layout")
    parser.add_argument("target", type=Path, help="file to write; its suffix decides the layout")
    parser.add_argument(
        "--ignore-leftover",
        action="store_true",
        help="convert although the file holds weights that the network has no place for",
    )
    parser.add_argument(
        "--weights",
        metavar="PREFIX",
        help='which set of weights, where the file has several: its prefix, such as "model."',
    )
    parser.add_argument("--force", action="store_true", help="replace the target if it exists")
    arguments = parser.parse_args()
    try:
        print(convert(**vars(arguments)))
    except PcdistillError as error:
        sys.exit(str(error))


def convert(
    source: Path,
    target: Path,
    ignore_leftover: bool = False,
    force: bool = False,
    weights: str | None = None,
) -> str:
    """Convert one file and say what it was.

    Args:
        source: checkpoint to read.
        target: file to write; its suffix names the layout.
        force: replace a target that exists.
        ignore_leftover: see `load_checkpoint`.
        weights: see `load_checkpoint`.

    Raises:
        ConfigError: the target has another suffix, exists, or is the source.
        ArtifactError: the source is no student network, or the target cannot be written.
    """
    layout = LAYOUTS.get(target.suffix)
    if layout is None:
        raise ConfigError(
            f"{target}: the suffix '{target.suffix}' names no layout; write .safetensors for ours "
            "or .pth for OpenScene's and SAS's"
        )
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(f"{target}: source and target are the same file; name another target")
    if target.exists() and not force:
        raise ConfigError(f"{target}: the file exists; name another or pass --force")
    network, metadata = load_checkpoint(source, ignore_leftover=ignore_leftover, weights=weights)
    provenance = {**metadata["provenance"], "converted_from": origin(source, metadata)}
    save_checkpoint(target, network, provenance, layout=layout)
    require_same_weights(network, target)
    sizes = network.architecture
    parameters = sum(parameter.numel() for parameter in network.parameters())
    width = "its own channels" if metadata["width"] is None else f"width {metadata['width']:g}"
    taken = f", weights of '{metadata['weights']}'" if "weights" in metadata else ""
    return (
        f"{target}: {sizes.name}, {width}, {sizes.in_channels} -> {sizes.out_channels} channels, "
        f"{parameters:,} parameters, {layout} layout{taken}"
    )


def origin(source: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Describe the file that was converted, for the provenance."""
    beside = {
        key: value
        for key, value in metadata.items()
        if key not in RECOGNISED and not (isinstance(value, float) and not math.isfinite(value))
    }
    return {"file": source.name, "sha256": file_sha256(source), **beside}


def require_same_weights(network: MinkUNet, target: Path) -> None:
    """Read the target back and compare, bit by bit."""
    written = load_checkpoint(target).network.state_dict()
    weights = network.state_dict()
    if list(written) != list(weights) or not all(
        torch.equal(written[key], value) for key, value in weights.items()
    ):
        raise ConfigError(f"{target}: reads back with other weights; check the disk")


if __name__ == "__main__":
    main()
