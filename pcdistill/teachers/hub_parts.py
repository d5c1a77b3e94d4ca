"""Parts of weights that are several files, as the index of a folder of the hub names them."""

from __future__ import annotations

import json
from pathlib import Path

from pcdistill.errors import ArtifactError, UnreadableError, file_trouble
from pcdistill.size_limits import HOW_TO_RAISE, raised, read_bounded

MAX_INDEX_BYTES = 64 << 20
"""Of an index; that of a model of thousands of weights has some hundred kilobytes."""


def read_part_names(index: Path) -> list[str]:
    """Names of the parts that an index lists, all beside it, in their order.

    Raises:
        ArtifactError: it is no index, or names a file elsewhere, which would be read for a part.
        UnreadableError: it cannot be read.
    """
    try:
        content = read_bounded(index, MAX_INDEX_BYTES)
    except OSError as error:
        raise UnreadableError(file_trouble(error, index)) from None
    if content is None:
        raise ArtifactError(
            f"{index}: has more than {raised(MAX_INDEX_BYTES)} bytes, expected an index of "
            f"weights; fetch the model again, or, {HOW_TO_RAISE}"
        )
    try:
        names = set(json.loads(content)["weight_map"].values())
        if not all(isinstance(name, str) for name in names):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ArtifactError(
            f"{index}: is no index of weights, expected 'weight_map' with a file for each; fetch "
            "the model again"
        ) from None
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ArtifactError(
                f"{index}: names the part '{name[:80]}', expected a .safetensors file beside it; "
                "fetch the model again from its authors"
            )
    return sorted(names)
