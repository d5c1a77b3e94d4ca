"""Reading and writing of artefact files: JSON, and safetensors with their provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pcdistill.atomic_io import atomic_file, require_readable
from pcdistill.errors import ArtifactError, UnreadableError, file_trouble
from pcdistill.size_limits import HOW_TO_RAISE, raised, read_bounded
from pcdistill.tensor_files import save_tensors

MAX_JSON_BYTES = 1 << 30
"""Of one artefact; the largest, the results of a method, have confusion counts of every scene."""
_FORMAT_KEY = "pcdistill.artifact"
_FORMAT = 1
"""Version of the header of an artefact; files without one are of versions before it, and read."""


def write_json(path: Path, value: Any, *, flush: bool = True) -> None:
    """Write `value` as readable JSON, whole or not at all; see `atomic_file` for `flush`."""
    with atomic_file(path, flush=flush) as temporary, temporary.open("w") as file:
        json.dump(value, file, indent=1, sort_keys=True)  # piece by piece: it may be large
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON artefact.

    Raises:
        ArtifactError: the file is missing or is not JSON.
        UnreadableError: it cannot be read.
    """
    try:
        content = read_bounded(path, MAX_JSON_BYTES)
        if content is None:
            raise ArtifactError(
                f"{path} has more than {raised(MAX_JSON_BYTES)} bytes; delete it and run again, "
                f"or, {HOW_TO_RAISE}"
            )
        return json.loads(content.decode())
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; run the stage that makes it") from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is not readable JSON ({str(error)[:80]}); delete it and run again"
        ) from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> None:
    """Write tensors as safetensors with their provenance in the header, whole or not at all.

    Args:
        path: file to write.
        tensors: by name; on any device.
        provenance: JSON values.
    """
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    told = json.dumps(dict(provenance), sort_keys=True)
    header = {"provenance": told, _FORMAT_KEY: str(_FORMAT)}
    with atomic_file(path) as temporary:
        save_tensors(contiguous, temporary, header)


def read_tensors(path: Path, names: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Read the named tensors (all by default) of a safetensors artefact.

    Raises:
        ArtifactError: the file is missing, damaged, or lacks one of `names`.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        present = set(archive.keys())
        wanted = present if names is None else set(names)
        if missing := wanted - present:
            raise ArtifactError(
                f"{path} lacks {', '.join(sorted(missing))}; delete it and run again"
            )
        return {key: archive.get_tensor(key) for key in wanted}


def read_rows(path: Path, name: str, rows: Sequence[int]) -> Tensor:
    """Read some rows of a tensor of a safetensors artefact, and nothing else of it.

    Args:
        path: the file.
        name: of the tensor.
        rows: which, in any order.

    Raises:
        ArtifactError: the file is missing, damaged, or lacks the tensor.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        if name not in set(archive.keys()):
            raise ArtifactError(f"{path} lacks {name}; delete it and run again")
        stored = archive.get_slice(name)
        found = [stored[row : row + 1] for row in rows]
        return torch.cat(found) if found else stored[0:0]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors artefact, by name; only its head is read.

    Raises:
        ArtifactError: the file is missing or damaged.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        return {key: tuple(archive.get_slice(key).get_shape()) for key in archive.keys()}  # noqa: SIM118


def read_provenance(path: Path) -> dict[str, Any]:
    """Read the provenance that `write_tensors` put into a file's header.

    Raises:
        ArtifactError: the file is missing or damaged.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        header = archive.metadata() or {}
    try:
        provenance = json.loads(header.get("provenance", "{}"))
    except (ValueError, RecursionError):
        provenance = None
    if not isinstance(provenance, dict):
        raise ArtifactError(f"{path} is damaged (its provenance); delete it and run again")
    return provenance


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; see `read_tensors` for what is raised."""
    try:
        require_readable(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; run the stage that makes it") from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    try:
        with safe_open(path, framework="pt") as archive:
            _require_known_format(path, archive.metadata() or {})
            yield archive
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run again") from None


def _require_known_format(path: Path, header: Mapping[str, str]) -> None:
    """Refuse a file of a newer version."""
    text = header.get(_FORMAT_KEY, "0")
    if not text.isdecimal() or int(text[:9]) > _FORMAT:
        raise ArtifactError(
            f"{path} has format {text[:40]!r}, which a newer pcdistill wrote, expected {_FORMAT} "
            "or earlier; install the newer one, or delete the file and run again"
        )
