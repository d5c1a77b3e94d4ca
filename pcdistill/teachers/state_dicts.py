"""Loader of the tensors of a file of weights, in any of the formats that authors publish."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pcdistill.atomic_io import require_readable
from pcdistill.errors import ArtifactError, UnreadableError, file_trouble
from pcdistill.size_limits import require_no_bomb
from pcdistill.teachers.restricted_unpickler import PickleModule, RestrictedUnpickler
from pcdistill.teachers.script_archive import is_script_archive, load_script_archive

_NESTS = ("state_dict", "model", "module")
"""Keys below which the tensors of a training's checkpoint stand."""


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file of weights, on the CPU; no code of the file is run.

    Args:
        path: safetensors; a file of `torch.save`, with settings of a training beside the weights or
            not; a TorchScript archive; a pickle of numpy arrays or tensors.

    Returns:
        name in the file -> tensor in its stored dtype. Plain values beside tensors are left out.

    Raises:
        ArtifactError: the file is missing, damaged, without tensors, or names a function or class
            that has nothing to do with them.
        UnreadableError: it cannot be read.
    """
    try:
        require_readable(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no such file of weights; check the path") from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    tensors = _tensors(_load(path))
    if not tensors:
        raise ArtifactError(
            f"{path}: found no tensors by name, expected the state dict of a network; check that "
            "it is the file of weights"
        )
    return tensors


def _load(path: Path) -> Any:
    try:
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as archive:
                return {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
        if zipfile.is_zipfile(path):
            require_no_bomb(path)
            return load_script_archive(path) if is_script_archive(path) else _load_torch(path)
        with path.open("rb") as file:
            content = RestrictedUnpickler(file).load()
        if content == torch.serialization.MAGIC_NUMBER:  # torch.save before its version 1.6
            return _load_torch(path)
        return content
    except ArtifactError:
        raise
    except pickle.UnpicklingError as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise ArtifactError(
            f"{path}: not read, because it is no pickle of tensors, arrays and plain values alone "
            f"({reason}); use the file that the authors publish, or a safetensors file"
        ) from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    except Exception as error:  # damaged archives and pickles raise many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        kind = "safetensors file" if isinstance(error, SafetensorError) else "file of weights"
        raise ArtifactError(
            f"{path}: the {kind} is damaged, truncated or of another kind ({reason}); fetch it "
            "again"
        ) from None


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _load_torch(path: Path) -> Any:
    mapped = zipfile.is_zipfile(path)  # an optimizer beside the weights is never read then
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:  # settings beside the weights
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=PickleModule, mmap=mapped
        )


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    found = {
        str(key): torch.from_numpy(value) if isinstance(value, np.ndarray) else value.detach()
        for key, value in content.items()
        if isinstance(value, Tensor | np.ndarray)
    }
    if found:
        return found
    return next((below for key in _NESTS if (below := _tensors(content.get(key)))), {})
