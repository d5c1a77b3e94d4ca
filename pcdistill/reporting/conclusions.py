"""What the measured rows of a run say, in sentences, with the interval of every difference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pcdistill.artifacts import remembered_scenes
from pcdistill.errors import ArtifactError
from pcdistill.evaluation import (
    Comparison,
    comparison_sentence,
    interval_note,
    paired_difference,
    reach_sentence,
)
from pcdistill.inference import BINARY, ORACLE, POOLED, SHUFFLED, VOXELS, method_names
from pcdistill.pipeline import RunContext, read_json, row_confusion

_LOG = logging.getLogger(__name__)

HELD_AGAINST = ("average", BINARY, SHUFFLED, ORACLE)
"""What fused features are compared with, beside the best teacher."""
TO_REACH = (VOXELS, "fused", POOLED)
"""What a student is compared with."""

REMEMBERS = (
    "the student learned from scenes that are measured here: on these it remembers what the "
    "teachers said, and its numbers say little about other scenes"
)


def measured_rows(run: RunContext) -> list[dict[str, Any]]:
    """What stage evaluate wrote of each row that was measured, in the order of the table."""
    found = []
    for name in method_names(run):
        path = run.workspace.result(name)
        try:
            result = read_json(path) if path.exists() else None
        except ArtifactError as error:
            _LOG.warning("row %s is not shown: %s", name, error)
            continue
        if result is not None and result["miou"] is not None:
            found.append(result)
    return found


def best_of(rows: Sequence[Mapping[str, Any]], kind: str) -> str | None:
    """Name of the best measured row of a kind, such as `student`; None without any."""
    known = {row["name"]: row["miou"] for row in rows if row["name"].startswith(f"{kind}:")}
    return max(known, key=known.__getitem__) if known else None


def compare_rows(
    run: RunContext,
    rows: Sequence[Mapping[str, Any]],
    first: str | None,
    others: Sequence[str | None],
) -> list[Comparison]:
    """Compare a row with others, as far as they were measured alike.

    Args:
        run: context of the run.
        rows: what stage evaluate wrote.
        first: name of a row.
        others: names of rows; those that are not there are left out, as are those of other scenes
            or of another protocol.
    """
    known = {row["name"]: row for row in rows if row.get("confusion")}
    one = known.get(first or "")
    if one is None:
        return []
    classes, protocol = len(run.label_set.names), run.protocol
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
                row_confusion(one, classes)[None],
                row_confusion(other, classes)[None],
                unseen=protocol.unseen,
                mean_over=protocol.mean_over,
                excluded_classes=tuple(map(run.label_set.names.index, protocol.excluded_classes)),
            ),
        )
        for other in alike
    ]


def comparisons(run: RunContext) -> list[list[Comparison]]:
    """Fused features with what they are held against, then the best student with its targets."""
    rows = measured_rows(run)
    found = [
        compare_rows(run, rows, "fused", (best_of(rows, "teacher"), *HELD_AGAINST)),
        compare_rows(run, rows, best_of(rows, "student"), TO_REACH),
    ]
    return [compared for compared in found if compared]


def conclusions(run: RunContext) -> tuple[str, ...]:
    """Sentences about the rows as they were measured last; none where nothing was."""
    found = comparisons(run)
    sentences = [REMEMBERS] if remembered_scenes(run) and measured_rows(run) else []
    for compared in found:
        scenes = _scenes(run, compared)
        if compared[0].first == "fused":
            sentences.append(comparison_sentence(compared, scenes))
        else:
            sentences.append(reach_sentence(compared, scenes, _explained(compared[0].first)))
    agreement = _agreement(run)
    if found:
        sentences.append(interval_note(found[0][0].apart.scenes, _noun(run)))
    return (*sentences, *([agreement] if agreement else []))


def _explained(student: str) -> dict[str, str]:
    """What the rows are to a student, where their names do not say it."""
    targets = {"student:point": "fused", "student:pretrained": None}.get(student, POOLED)
    known = {VOXELS: "fused with the same votes"}
    return known if targets is None else {**known, targets: "its targets"}


def _scenes(run: RunContext, compared: Sequence[Comparison]) -> str:
    return f"the {compared[0].apart.scenes} {_noun(run)}"


def _noun(run: RunContext) -> str:
    return "homes" if run.config.ingest.source == "homes" else "scenes"


def _agreement(run: RunContext) -> str | None:
    """How far measured and true capability agree, where true labels tell it."""
    path = run.workspace.true_capability
    if not run.config.run.teachers or not path.exists():
        return None
    try:
        found = read_json(path)
    except ArtifactError as error:
        _LOG.warning("capability is not compared: %s", error)
        return None
    return str(found["sentence"]) if found["spearman"] is not None else None
