"""Student networks on disk: our own files, and those of OpenScene and SAS.

Our layout is one safetensors file: the weights under the reference's names, and in its header the
architecture and where the weights come from. The other layout is the reference's ``.pth``: a
dictionary whose ``state_dict`` has the same names behind ``net3d.`` (and ``module.`` after training
on several GPUs), next to ``epoch``, ``optimizer`` and ``best_iou``. The names may stand behind any
prefix and in other dictionaries; of several sets of weights the average over training is taken.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pcdistill.atomic_io import atomic_file, require_readable
from pcdistill.errors import ArtifactError, ConfigError, UnreadableError, file_trouble
from pcdistill.networks.architectures import (
    NUM_STAGES,
    PLANES,
    Architecture,
    architecture_from_layers,
    infer_width,
)
from pcdistill.networks.mink_unet import MinkUNet
from pcdistill.networks.weight_sets import (
    WeightSet,
    best_weight_set,
    find_weight_sets,
    named_weight_set,
)
from pcdistill.size_limits import require_no_bomb
from pcdistill.tensor_files import save_tensors

FORMAT = "pcdistill.student/1"
"""What the header of our files says they are."""

REFERENCE_PREFIX = "net3d."
PREFIXES = ("module.", REFERENCE_PREFIX)
"""What wrappers put in front of the names, stripped in any order."""

_ANCHOR = "conv0p1s1.kernel"
"""A weight that every MinkUNet has; what stands before its name in a file is the prefix."""

NAMES_SHOWN = 4
"""Names that an error message lists before it counts the rest."""

_log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A network and what is known about it."""

    network: MinkUNet
    """In eval mode, float32, on the CPU."""
    metadata: dict[str, Any]
    """`layout`, `architecture`, `width` (None where the channels are no scaled family member),
    `provenance`, `leftover_keys`, `weights` (the prefix of the set that was taken, where the file
    has several), and the plain numbers and words found beside the weights."""


def load_checkpoint(
    path: str | Path, *, ignore_leftover: bool = False, weights: str | None = None
) -> Checkpoint:
    """Read a student network; architecture and width are recognised from the file.

    Args:
        path: a safetensors file of ours, or a ``.pth`` / ``.pth.tar`` of OpenScene or SAS with or
            without prefixes and optimiser. Nothing but tensors and plain values is unpickled.
        ignore_leftover: load although the file holds weights that the network has no place for;
            they are then named in the log and in ``metadata["leftover_keys"]``.
        weights: which set of weights, where the file has several: its prefix, such as ``"model."``
            or ``"ema_state_dict"``, or a part of it between dots. By default the one that is named
            as an average over training, else the first; the log says which, and names the others.

    Raises:
        ArtifactError: the file is missing, truncated, of another kind, or its weights are not
            those of one MinkUNet; the text names what is missing or left over. No set of weights
            has the prefix that was asked for, or several have.
        UnreadableError: the file cannot be read.
    """
    path = Path(path)
    try:
        require_readable(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no such checkpoint file; check the path") from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    if _is_safetensors(path):
        stored, metadata = _read_safetensors(path)
    else:
        stored, metadata = _read_pickled(path)
    own = _take(path, stored, metadata, weights)
    architecture = metadata.get("architecture") or _recognize(path, own)
    network = _fill(path, architecture, own, metadata, ignore_leftover)
    metadata["architecture"] = asdict(network.architecture)
    metadata["width"] = infer_width(network.architecture)
    metadata.setdefault("provenance", {})
    return Checkpoint(network.eval(), metadata)


def save_checkpoint(
    path: str | Path,
    network: MinkUNet,
    provenance: Mapping[str, Any],
    *,
    layout: Literal["pcdistill", "minkowski"] = "pcdistill",
) -> None:
    """Write a student network whole: under a temporary name, flushed to disk, then renamed.

    Args:
        path: where to; an existing file is replaced.
        network: on any device, in any mode.
        provenance: where the weights come from, anything that JSON can hold.
        layout: "pcdistill" for safetensors, "minkowski" for a ``.pth`` that the reference loads.

    Raises:
        ValueError: unknown layout, or a provenance that JSON cannot hold.
        ArtifactError: the file cannot be written.
    """
    try:
        provenance_text = json.dumps(dict(provenance), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"provenance cannot be written as JSON: {error}") from error
    weights = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    architecture = asdict(network.architecture)
    if layout == "pcdistill":
        header = {
            "format": FORMAT,
            "architecture": json.dumps(architecture),
            "provenance": provenance_text,
        }

        def write(temporary: Path) -> None:
            save_tensors(weights, temporary, header)
    elif layout == "minkowski":

        def write(temporary: Path) -> None:
            prefixed = {REFERENCE_PREFIX + key: value for key, value in weights.items()}
            torch.save(
                {
                    "state_dict": prefixed,
                    "architecture": json.loads(json.dumps(architecture)),
                    "provenance": json.loads(provenance_text),
                },
                temporary,
            )
    else:
        raise ValueError(f"layout is '{layout}', expected 'pcdistill' or 'minkowski'")
    _write_whole(Path(path), write)


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    try:
        with atomic_file(path) as temporary:
            write(temporary)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ArtifactError(
            f"{path}: the checkpoint could not be written ({error}); check the folder and the "
            "free space"
        ) from error


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: the safetensors file is damaged or truncated ({error}); save or fetch it "
            "again"
        ) from error
    metadata: dict[str, Any] = {"layout": "pcdistill"}
    written = header.get("format", "")
    if written != FORMAT and written.startswith(FORMAT.rpartition("/")[0]):
        raise ArtifactError(
            f"{path}: is a student of another version ({written!r}), expected '{FORMAT}'; install "
            "the pcdistill that wrote it, or save it again with this one"
        )
    if written != FORMAT:
        return weights, metadata  # somebody's conversion: recognised by its shapes
    try:
        sizes = json.loads(header["architecture"])
        for name in ("planes", "layers"):
            sizes[name] = tuple(sizes[name])
        metadata["architecture"] = architecture = Architecture(**sizes)
        if architecture.name not in PLANES:
            raise ValueError(f"unknown architecture '{architecture.name}'")
        metadata["provenance"] = json.loads(header["provenance"])
    except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
        raise ArtifactError(
            f"{path}: the header of this student file is damaged ({error}); save it again"
        ) from error
    return weights, metadata


def _read_pickled(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    require_no_bomb(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{path}: this is not a checkpoint of tensors and plain values, so it was not "
            f"unpickled ({reason}); save its state_dict alone with torch.save"
        ) from error
    except Exception as error:  # torch raises many kinds for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(
            f"{path}: the checkpoint is truncated, damaged or of another kind ({reason}); expected "
            "a safetensors file or a .pth of torch.save"
        ) from error
    if not isinstance(stored, Mapping):
        raise ArtifactError(
            f"{path}: the file holds a {type(stored).__name__}, expected a dictionary with "
            "'state_dict'"
        )
    metadata: dict[str, Any] = {"layout": "minkowski"}
    for key, value in stored.items():
        if isinstance(value, (bool, int, float, str)) and key not in metadata:
            metadata[str(key)] = value
    provenance = stored.get("provenance")
    metadata["provenance"] = dict(provenance) if isinstance(provenance, Mapping) else {}
    metadata.pop("architecture", None)  # some files name it in words; the shapes decide
    return stored, metadata


def _take(
    path: Path, stored: Mapping[str, Any], metadata: dict[str, Any], wanted: str | None
) -> dict[str, Tensor]:
    """The set of weights that was asked for, or the best, by names without prefix."""
    sets = find_weight_sets(stored, _ANCHOR)
    if not sets:
        return _only_tensors(path, stored)
    if wanted is None:
        taken = best_weight_set(path, sets, _architecture_of)
    else:
        taken = named_weight_set(path, sets, wanted)
    if len(sets) > 1:
        metadata["weights"] = taken.prefix
    return _strip(taken.weights)


def _architecture_of(weight_set: WeightSet) -> Architecture | None:
    """The MinkUNet that a set of weights is of; None where some are missing."""
    own = _strip(weight_set.weights)
    try:
        architecture = _recognize(Path(), own)
        with torch.device("meta"):
            expected = MinkUNet(architecture).state_dict().keys()
    except (ArtifactError, ConfigError, ValueError):
        return None
    return architecture if expected <= own.keys() else None


def _only_tensors(path: Path, stored: Mapping[str, Any]) -> dict[str, Tensor]:
    """What may be weights where no network is recognised, for the message that names them."""
    weights = stored.get("state_dict", stored)
    tensors = {}
    if isinstance(weights, Mapping):
        tensors = {str(key): value for key, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ArtifactError(
            f"{path}: there are no weights in this file (entries: {_some(map(str, stored))}), "
            "expected them under 'state_dict'"
        )
    return _strip(tensors)


def _numpy_scalars() -> list[Any]:
    """What a stored numpy number (`best_iou`) unpickles to: a plain number, and nothing else."""

    def scalar(dtype: np.dtype[Any], raw: object = b"") -> object:
        if dtype.kind not in "biuf" or not isinstance(raw, (bytes, str)):
            raise pickle.UnpicklingError(f"numpy value of dtype {dtype}")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        return np.frombuffer(data, dtype=dtype, count=1)[0].item()

    kinds = (np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        *kinds,
    ]


def _strip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of wrappers."""
    stripped = {}
    for key, value in weights.items():
        name = key
        while name.startswith(PREFIXES):
            name = next(name.removeprefix(p) for p in PREFIXES if name.startswith(p))
        stripped[name] = value
    return stripped


def _recognize(path: Path, weights: Mapping[str, Tensor]) -> Architecture:
    """The sizes of a MinkUNet from the names and shapes of its weights."""

    def channels(key: str, axis: int) -> int:
        if key not in weights:
            raise ArtifactError(
                f"{path}: '{key}' is missing (found {_some(weights)}), so these are not the "
                "weights of a MinkUNet14A, 18A, 34C or a narrower one"
            )
        shape = weights[key].shape
        if len(shape) < -axis:
            raise ArtifactError(f"{path}: '{key}' has shape {tuple(shape)}, expected a kernel")
        return int(shape[axis])

    layers = []
    for stage in range(1, NUM_STAGES + 1):
        blocks = {key.split(".")[1] for key in weights if key.startswith(f"block{stage}.")}
        layers.append(max((int(block) + 1 for block in blocks if block.isdigit()), default=1))
    return Architecture(
        architecture_from_layers(layers) or "MinkUNet18A",
        channels(_ANCHOR, -2),
        channels("final.kernel", -1),
        tuple(channels(f"block{stage}.0.conv1.kernel", -1) for stage in range(1, NUM_STAGES + 1)),
        channels(_ANCHOR, -1),
        tuple(layers),
    )


def _fill(
    path: Path,
    architecture: Architecture,
    weights: dict[str, Tensor],
    metadata: dict[str, Any],
    ignore_leftover: bool,
) -> MinkUNet:
    """A network with exactly these weights."""
    with torch.device("meta"):
        network = MinkUNet(architecture)
    expected = network.state_dict()
    missing = [key for key in expected if key not in weights]
    if missing:
        raise ArtifactError(
            f"{path}: weights are missing for a {architecture.name}: {_some(missing)}; the file is "
            "incomplete or of another network"
        )
    leftover = [key for key in weights if key not in expected]
    metadata["leftover_keys"] = leftover
    if leftover and not ignore_leftover:
        raise ArtifactError(
            f"{path}: weights are left over that a {architecture.name} has no place for: "
            f"{_some(leftover)}; pass ignore_leftover=True if they are not needed"
        )
    if leftover:
        _log.warning("%s: ignored weights without a place: %s", path, ", ".join(leftover))
    filled = {}
    for key, target in expected.items():
        value = weights[key]
        if value.dim() == target.dim() + 1 and value.shape[0] == 1:
            value = value[0]  # 1x1 kernels of older files are (1, C_in, C_out)
        if value.shape != target.shape:
            raise ArtifactError(
                f"{path}: '{key}' has shape {tuple(value.shape)}, expected {tuple(target.shape)} "
                f"for a {architecture.name} of these channels"
            )
        value = value.to(target.dtype)
        if not bool(value.isfinite().all()):
            raise ArtifactError(
                f"{path}: '{key}' holds values that are not finite; the training that wrote it "
                "diverged or the file is damaged"
            )
        filled[key] = value.clone()
    network.load_state_dict(filled, assign=True)
    network.requires_grad_(True)
    return network


def _some(names: Any) -> str:
    """The first few names, and how many more."""
    listed = list(names)
    shown = ", ".join(f"'{name}'" for name in listed[:NAMES_SHOWN])
    rest = len(listed) - NAMES_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown or "none"
