"""The page docs/results.md: tables of the homes, and sentences that follow from them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from pcdistill.errors import ConfigError
from pcdistill.evaluation import (
    Comparison,
    comparison_sentence,
    interval_in_words,
    interval_note,
)
from pcdistill.inference.methods import VOXELS

from . import DOCS
from .ensemble_page import SIGNIFICANT
from .homes_numbers import Numbers, Row

EARLIER = "## Earlier numbers"
"""Heading of what the page once reported; from there on it is kept as it is."""

STUDY = DOCS / "temporal_ensemble.md"
STUDY_HEADING = "## The temporal ensemble"
BASE, ENSEMBLE = "student:superpoint", "student:superpoint+ensemble"


def results_page(numbers: Numbers, about: Sequence[str], changes: Sequence[str]) -> str:
    """The part of the page that is measured.

    Args:
        numbers: what came out.
        about: paragraphs on what was run, and on which homes what was chosen.
        changes: settings in which the runs depart from the frozen ones.
    """
    first = numbers.single[0].rows[numbers.names[0]]
    lines = [
        "# Results on the embedded homes",
        "",
        *shortfalls(numbers),
        "",
        *about,
        "The embedded teachers are small networks trained on rendered pictures of yet other homes, "
        "so these numbers say how the *method* behaves in a world where everything can be "
        "measured; they are not comparable with numbers on ScanNet.",
        "",
        f"- protocol: {first['protocol']}",
        *([f"- departing from these settings: `{' '.join(changes)}`"] if changes else []),
        f"- machine: {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}",
        f"- mean and standard deviation over {len(numbers.single)} seeds; homes are the same on "
        "every processor, trained students are not",
        "",
        *table(numbers),
        "",
        *reading(numbers),
        "",
        *class_table(numbers),
        *ensemble_section(numbers),
    ]
    return "\n".join(lines) + "\n"


def shortfalls(numbers: Numbers) -> list[str]:
    """What did not come out, before anything else."""
    missed = numbers.shortfalls
    goals = (
        "each teacher < average < fused; fused > shuffled; on every seed fused at least the best "
        "of teachers, average and linear; rank correlation of measured with true "
        "capability at least 0.7; the best student with one cut and with several at least at fused "
        "features with the same cuts"
    )
    if not missed:
        return [f"What was to come out did: {goals}."]
    return [f"Of what was to come out ({goals}), this did not:", "", *(f"- {m}" for m in missed)]


def table(numbers: Numbers) -> list[str]:
    """Every row, with one cut; those that look at voxels also with several."""
    rows = {name: numbers.row(name) for name in numbers.names}
    best = max(row.miou for row in rows.values())
    lines = [
        f"| method | mIoU % | mAcc % | mIoU %, {numbers.votes} cuts |",
        "|---|---:|---:|---:|",
    ]
    for name, row in rows.items():
        mark = "**" if row.miou == best else ""
        cuts = "-"
        if name == VOXELS or name.startswith("student:"):
            cuts = _miou(numbers.row(name, voted=True), "")
        lines.append(
            f"| {name} | {_miou(row, mark)} | {row.macc:.1f} ± {row.macc_sd:.1f} | {cuts} |"
        )
    return [
        *lines,
        "",
        "Rows with a dash do not look at voxels. `binary`, `shuffled` and `oracle` fuse with 1 for "
        "every capability above zero, with the measured ones in a random order (mean of 5), and "
        "with true IoU; `fused+voxels` averages fused features over the voxels and cuts of the "
        "students, `fused+superpoints` over each superpoint, which is what the students learn "
        "from.",
    ]


def _miou(row: Row, mark: str) -> str:
    return f"{mark}{row.miou:.1f}{mark} ± {row.miou_sd:.1f}"


def reading(numbers: Numbers) -> list[str]:
    """What the table says: every difference with its interval."""
    fusion, best = numbers.fusion, numbers.best_student
    scenes = fusion[0].apart.scenes
    homes = f"the {scenes} homes"
    teachers = len(numbers.teachers)
    lines = [
        f"- {comparison_sentence(group, homes)}"
        for group in (fusion[:teachers], fusion[teachers:-1], fusion[-1:])
        if group
    ]
    note = interval_note(scenes, "homes", len(numbers.single))
    return [
        f"{note[0].upper()}{note[1:]}.",
        "",
        *lines,
        "",
        f"The best student by its mean over these seeds is {best}. Like for like is `fused+voxels` "
        "only, which is cut as often; `fused` and `fused+superpoints` are the same in both "
        "columns.",
        "",
        *_student_table(numbers, best),
        "",
        *_agreement(numbers),
    ]


def _student_table(numbers: Numbers, student: str) -> list[str]:
    single, voted = (numbers.student(student, voted=votes) for votes in (False, True))
    pairs = zip(single, voted, strict=True)
    return [
        f"| {student} less | one cut | {numbers.votes} cuts |",
        "|---|---:|---:|",
        *(f"| {one.second} | {_said(one)} | {_said(other)} |" for one, other in pairs),
    ]


def _said(one: Comparison) -> str:
    return f"{one.apart}, {one.apart.verdict}" if one.apart.verdict else str(one.apart)


def _agreement(numbers: Numbers) -> list[str]:
    pooled, means = numbers.agreement(), numbers.agreement_of_means
    each = [numbers.agreement([seed]).spearman for seed in numbers.single]
    told = f"{_rank(pooled.spearman)}{interval_in_words(pooled.interval)} (n = {pooled.classes})"
    ahead = ", ".join(f"{value:+.1f}" for value in numbers.fused_ahead)
    return [
        f"Seed by seed fused less the best of teachers, average and linear: {ahead}.",
        "",
        "Spearman's rank correlation of measured capability with true IoU over the taught classes "
        f"of all teachers and seeds together: {told}; "
        f"seed by seed {', '.join(map(_rank, each))}; of the means over the seeds "
        f"{_rank(means.spearman)} (n = {means.classes}).",
    ]


def _rank(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def ensemble_section(numbers: Numbers) -> list[str]:
    """How far the student with the temporal ensemble is from the one without, and what is known.

    What the page of the study says is significant is said here, too.
    """
    if not {BASE, ENSEMBLE} <= set(numbers.names):
        return []
    one, voted = (numbers.compare(ENSEMBLE, BASE, voted=votes) for votes in (False, True))
    lines = [
        "",
        STUDY_HEADING,
        "",
        f"On these homes {ENSEMBLE} less {BASE} is {_said(one)} with one cut, and {_said(voted)} "
        f"with {numbers.votes}.",
    ]
    return [*lines, "", *study_in_short(STUDY)] if STUDY.exists() else lines


def study_in_short(page: Path) -> list[str]:
    """What is significant of the study of the temporal ensemble, as its page says it."""
    told = [line for line in page.read_text().splitlines() if line.startswith(SIGNIFICANT)]
    return [
        "What each of its settings does was studied on development homes, from the same student "
        f"where the ensemble joins ([the temporal ensemble]({page.name})). mIoU less that of the "
        "same epochs without labels:",
        "",
        *told,
    ]


def class_table(numbers: Numbers) -> list[str]:
    """IoU of every class."""
    rows = {name: numbers.row(name) for name in numbers.names}
    lines = [
        "IoU per class, %, mean over the seeds, one cut:",
        "",
        "| class | " + " | ".join(rows) + " |",
        "|---|" + "---:|" * len(rows),
    ]
    for category in numbers.classes:
        values = [row.per_class[category] for row in rows.values()]
        cells = " | ".join("-" if value is None else f"{value:.0f}" for value in values)
        lines.append(f"| {category} | {cells} |")
    return lines


def earlier_numbers(path: Path) -> str:
    """What the page at a path reported before, from its heading `EARLIER` on; empty without page.

    Raises:
        ConfigError: there is a page without that heading, whose numbers would be lost.
    """
    if not path.exists():
        return ""
    _, heading, kept = path.read_text().partition(f"{EARLIER}\n")
    if not heading:
        raise ConfigError(
            f"{path}: has no line '{EARLIER}', so that its numbers would be lost; write it above "
            "what is to be kept, or give another file with --write"
        )
    return f"\n{heading}{kept}"
