"""Colours of clouds and meshes as 8 bits a channel, whatever depth their file has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.ply_elements import Column

_LOG = logging.getLogger(__name__)

_SIXTEEN = 65535

Colors = npt.NDArray[np.uint8]


def color_bytes(
    file: Path,
    channels: Sequence[Column],
    names: Sequence[str],
    limits: tuple[float, float] | None = None,
) -> Colors:
    """Convert colours to 8 bits a channel.

    Without limits whole numbers up to 255 are 8 bits and up to 65535 are 16, of which the upper
    byte is taken; other numbers must lie between 0 and 1.

    Args:
        file: for messages.
        channels: red, green and blue, (N,) each.
        names: of the channels in the file.
        limits: what the file gives for dark and full, the same for all channels; 16-bit limits of
            numbers up to 255 are taken for a mistake of the writer.

    Returns:
        (N, 3) uint8.

    Raises:
        SceneError: a number is outside of the limits, or of every range that is in use.
    """
    values = np.stack(channels, axis=1)
    if values.dtype == np.uint8 and limits in (None, (0, 255)):
        return values
    if len(values) == 0:
        return values.astype(np.uint8)
    low, high = values.min(), values.max()
    if limits is not None and limits not in ((0, 255), (0, _SIXTEEN)):
        dark, full = limits
        if not (full > dark and low >= dark and high <= full):  # NaN as well
            raise _out_of_range(file, values, names, f"its limits {dark:g} to {full:g}")
        return np.rint((values.astype(np.float64) - dark) * (255 / (full - dark))).astype(np.uint8)
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        if not (low >= 0 and high <= 1):
            raise _out_of_range(file, values, names, "0 to 1, or whole numbers from 0 to 255")
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if not (low >= 0 and high <= _SIXTEEN):
        raise _out_of_range(file, values, names, "0 to 255 or, in 16 bits, to 65535")
    if values.dtype.kind == "f" and high <= 1 and limits is None:
        return (values * 255).astype(np.uint8)
    return (values if high <= 255 else values.astype(np.int64) >> 8).astype(np.uint8)


def real_colors(file: Path, colors: torch.Tensor | None) -> torch.Tensor | None:
    """Colours (N, 3) uint8 that tell points apart; None, with a word, where all are the same."""
    if colors is None or len(colors) < 2 or bool((colors != colors[0]).any()):
        return colors
    _LOG.warning("%s: all colours are %s, taken as none", file, colors[0].tolist())
    return None


def _out_of_range(file: Path, values: Column, names: Sequence[str], expected: str) -> SceneError:
    with np.errstate(invalid="ignore"):
        low, high = values.min(axis=0), values.max(axis=0)
    worst = int(np.argmax(np.maximum(np.abs(low), np.abs(high))))
    return SceneError(
        f"{file}: '{names[worst]}' goes from {low[worst]:g} to {high[worst]:g}, expected colours "
        f"from {expected}; write them as 'uchar'"
    )
