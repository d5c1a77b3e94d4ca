"""Maximum range of a depth sensor: one farthest value, in views of different directions alike."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor

from pcdistill.scenes.checks.samples import evenly_spaced
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.issues import is_examination

_LOG = logging.getLogger(__name__)

_FRAMES = 12  # looked at, spread over the scan
_MIN_FRAMES = 3  # of different directions that end at the same number
_SHARES = (0.005, 0.9)  # of a frame's readings; a wall straight ahead may be all of them
_SAME_DIRECTION = math.cos(math.radians(10))
_SLACK = 1 - 1e-6

SomeFrame = TypeVar("SomeFrame", bound=StoredFrame)


class _End(NamedTuple):
    """Where the readings of one frame end."""

    farthest: float
    fraction: float
    direction: Tensor


def within_limit(where: Path, frames: Sequence[SomeFrame]) -> list[SomeFrame]:
    """Drop the farthest value of a sensor that stands for all that is too far away.

    Sensors and renderers write a largest distance where there is none to be measured. A surface
    whose farthest part is exactly as far away in views of different directions does not exist.

    Args:
        where: the scan, for the log.
        frames: of one scan, in any coordinate frame; `farthest` is set where a limit shows, but
            for an examination, which is to see what the files hold.
    """
    limit = math.inf if is_examination() else _find_limit(frames)
    if limit == math.inf:
        return list(frames)
    _LOG.warning(
        "%s: the depth of frames that look different ways ends at exactly %.5g m, taken as no "
        "reading",
        *(where, limit),
    )
    return [replace(frame, farthest=limit * _SLACK) for frame in frames]


def _find_limit(frames: Sequence[StoredFrame]) -> float:
    spread = evenly_spaced(len(frames), _FRAMES)
    ends = [end for place in spread if (end := _end_of(frames[place])) is not None]
    alike: dict[float, list[Tensor]] = defaultdict(list)
    for end in ends:
        directions = alike[end.farthest]
        is_new = all(float(end.direction @ other) < _SAME_DIRECTION for other in directions)
        if _SHARES[0] <= end.fraction <= _SHARES[1] and is_new:
            directions.append(end.direction)
    farthest = max((end.farthest for end in ends), default=math.inf)
    return farthest if len(alike[farthest]) >= _MIN_FRAMES else math.inf


def _end_of(frame: StoredFrame) -> _End | None:
    if frame.depth_path is None:
        return None
    depth = frame.file_depth(frame.depth_path)
    known = int((depth > 0).sum())
    if known == 0:
        return None
    farthest = float(depth.max())
    fraction = int((depth == farthest).sum()) / known
    return _End(farthest, fraction, frame.camera_to_world[:3, 2])
