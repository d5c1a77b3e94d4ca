"""Conclusions from measured results: sentences with the interval of every difference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pcdistill.errors import ArtifactError
from pcdistill.evaluation import (
    Comparison,
    Protocol,
    comparison_sentence,
    interval_note,
    paired_difference,
    reach_sentence,
)
from pcdistill.inference import BINARY, ORACLE, POOLED, SHUFFLED, VOXELS, FinishedRun
from pcdistill.pipeline import Workspace, read_json, result_confusion
from pcdistill.scenes import LabelSet

_LOG = logging.getLogger(__name__)

HELD_AGAINST = ("average", BINARY, SHUFFLED, ORACLE)
"""What fused features are compared with, beside the best teacher."""
TO_REACH = (VOXELS, "fused", POOLED)
"""What a student is compared with."""

REMEMBERS = (
    "the student learned from scenes that are measured here: on these it remembers what the "
    "teachers said, and its numbers say little about other scenes"
)


def measured_results(workspace: Workspace, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Read what stage evaluate wrote of each of `methods` that was measured, in their order."""
    found = []
    for name in methods:
        path = workspace.result(name)
        try:
            result = read_json(path) if path.exists() else None
        except ArtifactError as error:
            _LOG.warning("row %s is not shown: %s", name, error)
            continue
        if result is not None and result["miou"] is not None:
            found.append(result)
    return found


def best_of(results: Sequence[Mapping[str, Any]], kind: str) -> str | None:
    """Name the best measured method of a kind, such as `student`; None without any."""
    known = {one["name"]: one["miou"] for one in results if one["name"].startswith(f"{kind}:")}
    return max(known, key=known.__getitem__) if known else None


def compare_methods(
    results: Sequence[Mapping[str, Any]],
    first: str | None,
    others: Sequence[str | None],
    label_set: LabelSet,
    protocol: Protocol,
) -> list[Comparison]:
    """Compare a method with others, as far as they were measured alike.

    Args:
        results: what stage evaluate wrote of each.
        first: name of a method.
        others: names of methods; those that are not there are left out, as are those of other
            scenes or of another protocol.
        label_set: K evaluation classes.
        protocol: of the results.
    """
    known = {one["name"]: one for one in results if one.get("confusion")}
    one = known.get(first or "")
    if one is None:
        return []
    classes = len(label_set.names)
    alike = [
        known[name]
        for name in others
        if name is not None
        and name in known
        and known[name]["protocol"] == one["protocol"]
        and known[name]["scenes"] == one["scenes"]
    ]
    return [
        Comparison(
            one["name"],
            other["name"],
            paired_difference(
                result_confusion(one, classes)[None],
                result_confusion(other, classes)[None],
                unseen=protocol.unseen,
                mean_over=protocol.mean_over,
                average=protocol.average,
                excluded_classes=tuple(map(label_set.names.index, protocol.excluded_classes)),
            ),
        )
        for other in alike
    ]


def comparisons(run: FinishedRun) -> list[list[Comparison]]:
    """Fused features with what they are held against, then the best student with its targets."""
    results = measured_results(run.artifacts.workspace, run.methods)
    how = run.artifacts.words.label_set, run.artifacts.protocol
    fused_against = (best_of(results, "teacher"), *HELD_AGAINST)
    found = [
        compare_methods(results, "fused", fused_against, *how),
        compare_methods(results, best_of(results, "student"), TO_REACH, *how),
    ]
    return [compared for compared in found if compared]


def conclusions(run: FinishedRun) -> tuple[str, ...]:
    """Sentences about the methods as they were measured last; none where nothing was."""
    found, split = comparisons(run), run.artifacts.scenes
    measured = measured_results(run.artifacts.workspace, run.methods)
    noun = "homes" if split.generated else "scenes"
    sentences = [REMEMBERS] if split.remembered and measured else []
    for compared in found:
        scenes = f"the {compared[0].apart.scenes} {noun}"
        if compared[0].first == "fused":
            sentences.append(comparison_sentence(compared, scenes))
        else:
            sentences.append(reach_sentence(compared, scenes, _explained(compared[0].first)))
    agreement = _agreement(run.artifacts.workspace) if run.artifacts.teachers else None
    if found:
        sentences.append(interval_note(found[0][0].apart.scenes, noun))
    return (*sentences, *([agreement] if agreement else []))


def _explained(student: str) -> dict[str, str]:
    """What the methods are to a student, where their names do not say it."""
    targets = {"student:point": "fused", "student:pretrained": None}.get(student, POOLED)
    known = {VOXELS: "fused with the same votes"}
    return known if targets is None else {**known, targets: "its targets"}


def _agreement(workspace: Workspace) -> str | None:
    """How far measured and true capability agree, where true labels tell it."""
    path = workspace.true_capability
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except ArtifactError as error:
        _LOG.warning("capability is not compared: %s", error)
        return None
    return str(found["sentence"]) if found["spearman"] is not None else None
