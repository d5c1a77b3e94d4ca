"""Sets of weights in a checkpoint: the raw ones of a network and their running average (EMA)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pcdistill.errors import ArtifactError

_LOG = logging.getLogger(__name__)

AVERAGE_WORDS = frozenset(
    ("ewa", "swa", "avg", "average", "averaged", "polyak", "shadow", "teacher")
)
"""Words in a prefix, besides those with "ema" at an end, that tell of an average over training; the
teacher of a pair is that of the student (mean teacher)."""

_AVERAGE_MARK = "n_averaged"
"""What torch's AveragedModel writes beside its `module.`."""
_BOOKKEEPING = (_AVERAGE_MARK, "num_updates", "decay", "initted")
"""Scalars that averages keep beside the weights."""
_MAX_DEPTH = 4


class WeightSet(NamedTuple):
    """The weights of one network."""

    prefix: str
    """What stands before its names, the dictionaries around them included."""
    weights: dict[str, Tensor]
    """By the names without the prefix; what else lies in the same dictionary is there too."""
    is_average: bool
    """Whether it is named as the average of others."""

    @property
    def label(self) -> str:
        """The prefix for a message."""
        return f"'{self.prefix}'"


def find_weight_sets(stored: Mapping[Any, Any], anchor: str) -> list[WeightSet]:
    """Find every network in a checkpoint, in the order of the file.

    Args:
        stored: a dictionary of tensors, or dictionaries of them at any of a few levels.
        anchor: name of a weight that each network has once; what stands before it is the prefix.
    """
    found = []
    for path, tensors in _dictionaries(stored, ""):
        starts = [key.removesuffix(anchor) for key in tensors if _ends_with(key, anchor)]
        marks = [key.removesuffix(_AVERAGE_MARK) for key in tensors if key.endswith(_AVERAGE_MARK)]
        own: dict[str, dict[str, Tensor]] = {start: {} for start in starts}
        rest: dict[str, Tensor] = {}
        for key, value in tensors.items():
            start = max((s for s in starts if key.startswith(s)), key=len, default=None)
            if start is not None:
                own[start][key.removeprefix(start)] = value
            elif key.rpartition(".")[2] not in _BOOKKEEPING:
                rest[key] = value
        for start, weights in own.items():
            averaged = any(start.startswith(f"{mark}module.") for mark in marks)
            weights = {k: v for k, v in weights.items() if k not in _BOOKKEEPING}
            is_average = averaged or _names_average(path + start)
            found.append(WeightSet(path + start, {**weights, **rest}, is_average))
    return found


def named_weight_set(path: Path, sets: Sequence[WeightSet], wanted: str) -> WeightSet:
    """Find the set of a prefix: the one that has it, else the only one that it is a part of.

    Args:
        path: the file, for messages.
        sets: of `find_weight_sets`.
        wanted: a prefix as the log names it, or a part of one between dots, with or without the
            last dot; "" for names without prefix.

    Raises:
        ArtifactError: there is no such set, or there are several.
    """
    plain = wanted.rstrip(".")
    spelled = (plain, f"state_dict.{plain}".rstrip("."))
    chosen = [one for one in sets if one.prefix.rstrip(".") in spelled]
    if not chosen and plain:
        chosen = [one for one in sets if f".{plain}." in f".{one.prefix}"]
    if len(chosen) != 1:
        raise ArtifactError(
            f"{path}: '{wanted}' names {len(chosen)} of its sets of weights, which are "
            f"{_labels(sets)}; give the whole prefix of one"
        )
    return chosen[0]


def best_weight_set(
    path: Path, sets: Sequence[WeightSet], kind_of: Callable[[WeightSet], Hashable]
) -> WeightSet:
    """The average if it is complete, else the first; the log says which, and how to take another.

    Args:
        path: the file, for messages.
        sets: of `find_weight_sets`, at least one.
        kind_of: which network a set is of; None where weights are missing.

    Raises:
        ArtifactError: the sets are of different networks.
    """
    if len(sets) == 1:
        return sets[0]
    kinds = [kind_of(one) for one in sets]
    whole = [one for one, kind in zip(sets, kinds, strict=True) if kind is not None] or list(sets)
    if len({*kinds} - {None}) > 1:
        raise ArtifactError(
            f"{path}: has the weights of several networks, {_labels(whole)}, expected one and its "
            "average over training; choose with load_checkpoint(..., weights=PREFIX) or "
            "tools/convert_checkpoint.py --weights PREFIX"
        )
    taken = next((one for one in whole if one.is_average), whole[0])
    others = [one for one in sets if one is not taken]
    cut = [one for one in sets if one not in whole]
    _LOG.warning(
        "%s: has %d sets of weights: took %s, %s, and not %s%s; for another name its prefix: "
        "load_checkpoint(..., weights='%s') or tools/convert_checkpoint.py --weights %s",
        path,
        len(sets),
        taken.label,
        "the average over training" if taken.is_average else "the first",
        _labels(others),
        f" (incomplete: {_labels(cut)})" if cut else "",
        others[0].prefix,
        others[0].prefix or "''",
    )
    return taken


def _labels(sets: Sequence[WeightSet]) -> str:
    return ", ".join(one.label for one in sets)


def _dictionaries(stored: Mapping[Any, Any], path: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each dictionary that holds tensors, behind the names that lead to it."""
    tensors = {str(key): value for key, value in stored.items() if isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    if path.count(".") < _MAX_DEPTH:
        for key, value in stored.items():
            if isinstance(value, Mapping):
                yield from _dictionaries(value, f"{path}{key}.")


def _ends_with(key: str, anchor: str) -> bool:
    return key == anchor or key.endswith(f".{anchor}")


def _names_average(prefix: str) -> bool:
    """Whether a word of the prefix says so: `modelEMA.`, `state_dict_ema.` and `ema.model.` do."""
    words = set(re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", prefix).lower()))
    return bool(words & AVERAGE_WORDS) or any(
        word.startswith("ema") or word.endswith("ema") for word in words
    )
