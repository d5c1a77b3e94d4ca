"""The page of the temporal ensemble: what the study measured, and what of it is significant."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.evaluation import PairedDifference, confusion_counts, paired_difference

from .ensemble_settings import OFF, SETTINGS, differences
from .homes_numbers import mean_of, spread

SOURCES = {
    "point": "student, per point",
    "superpoint": "student, per superpoint",
    "targets": "2D targets",
}
"""Whose labels are looked at, where the ensemble joins."""

VERDICTS = {
    "ahead": "- ahead of `without`:",
    "behind": "- behind `without`:",
    "no difference": "- no difference from `without` that these homes can tell:",
}
SIGNIFICANT = tuple(VERDICTS.values())
"""How the lines begin that say what is significant."""


class SeedResults(NamedTuple):
    """What was measured of one seed."""

    seed: int
    hand_over: Mapping[str, Any]
    """What `Study.describe` gave."""
    settings: Mapping[str, Mapping[str, Any]]
    """Name -> confusion of every validation home, of the settings that were measured."""


def study_page(results: Sequence[SeedResults], names: tuple[str, ...], about: list[str]) -> str:
    """The documentation page.

    Args:
        results: of each seed.
        names: of the K classes.
        about: paragraphs that say what was run.
    """
    lines = ["# The temporal ensemble", "", *about, ""]
    lines += ["## Where it joins", "", *_right_labels(results, names), ""]
    lines += ["## How hard the labels pull", "", *_gradients(results), ""]
    lines += ["## Twelve more epochs", "", *_settings_table(results, names), ""]
    return "\n".join(lines)


def matrices(confusion: Mapping[str, Any], classes: int) -> Tensor:
    """(H, K + 1, K) int64 of the homes, by name."""
    return torch.stack([confusion_counts(confusion[name], classes) for name in sorted(confusion)])


def miou(counts: Tensor) -> float:
    """Mean IoU in % over the present classes of counts (K + 1, K)."""
    hit = counts.diagonal()[: counts.shape[1]].double()
    true, said = counts.sum(dim=0), counts[: counts.shape[1]].sum(dim=1)
    iou = hit / (true + said - hit).clamp(min=1)
    return 100 * float(iou[true > 0].mean())


def against_none(
    results: Sequence[SeedResults], name: str, classes: int, other: str = OFF
) -> PairedDifference | None:
    """How far a setting is ahead of no labels, on the seeds that have both; None without any."""
    both = [one.settings for one in results if name in one.settings and other in one.settings]
    if not both:
        return None
    first, second = (
        torch.stack([matrices(one[key]["confusion"], classes) for one in both])
        for key in (name, other)
    )
    return paired_difference(first, second)


def _settings_table(results: Sequence[SeedResults], names: tuple[str, ...]) -> list[str]:
    classes = len(names)
    lines = [
        "Zero-shot mIoU in % on the validation homes, one cut; how far it is from that `without` "
        "labels, with the 95 % interval of a paired bootstrap over seeds and their homes. Beside "
        "each setting stands what it changes.",
        "",
        "| setting | what differs | seeds | mIoU % | less without | |",
        "|---|---|---:|---:|---:|---|",
    ]
    told: dict[str, list[str]] = {"ahead": [], "behind": [], "no difference": []}
    for name in SETTINGS:
        there = [one.settings[name] for one in results if name in one.settings]
        apart = against_none(results, name, classes)
        if apart is None:
            continue
        found = [miou(matrices(one["confusion"], classes).sum(dim=0)) for one in there]
        verdict = apart.verdict or ""
        lines.append(
            f"| {name} | {differences(name)} | {apart.seeds} | {statistics.mean(found):.1f} ± "
            f"{spread(found):.1f} | " + (f"{apart} | {verdict} |" if name != OFF else "- | |")
        )
        if name != OFF and verdict:
            told[verdict].append(f"{name} ({apart})")
    start = [miou(matrices(one.hand_over["hand_over"], classes).sum(dim=0)) for one in results]
    lines += [
        "",
        f"Where the twelve epochs begin the student has {statistics.mean(start):.1f} ± "
        f"{spread(start):.1f}.",
        "",
        *(f"{how} {'; '.join(told[verdict]) or 'none'}" for verdict, how in VERDICTS.items()),
    ]
    return lines


def _right_labels(results: Sequence[SeedResults], names: tuple[str, ...]) -> list[str]:
    classes = len(names)
    totals = {
        key: [confusion_counts(one.hand_over["training"][key], classes) for one in results]
        for key in SOURCES
    }
    agreeing = dict(zip(("point", "superpoint"), range(2), strict=True))
    lines = [
        "Labels of the training homes where the ensemble joins, of the points that some frame "
        "sees and that are of a class of the label set:",
        "",
        "| labels of | points right % | mIoU % | as the targets say, % of points |",
        "|---|---:|---:|---:|",
    ]
    for key, title in SOURCES.items():
        right = [100 * float(c.diagonal().sum() / c.sum()) for c in totals[key]]
        same = (
            [100 * one.hand_over["agreeing"][agreeing[key]] for one in results]
            if (key in agreeing)
            else [100.0]
        )
        lines.append(
            f"| {title} | {statistics.mean(right):.1f} | "
            f"{statistics.mean(miou(c) for c in totals[key]):.1f} ± "
            f"{spread([miou(c) for c in totals[key]]):.1f} | {statistics.mean(same):.1f} |"
        )
    lines += ["", *_outside(results, names), ""]
    lines += ["Recall of each class, %, mean over the seeds; IoU in brackets:", ""]
    lines += ["| class | " + " | ".join(SOURCES.values()) + " |", "|---|---:|---:|---:|"]
    for number, name in enumerate(names):
        cells = []
        for key in SOURCES:
            recall, iou = zip(*(_class_numbers(c, number) for c in totals[key]), strict=True)
            cells.append(f"{_percent(mean_of(recall))} ({_percent(mean_of(iou))})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _class_numbers(counts: Tensor, number: int) -> tuple[float | None, float | None]:
    hit, true = float(counts[number, number]), float(counts[:, number].sum())
    if true == 0:
        return None, None
    return hit / true, hit / (true + float(counts[number].sum()) - hit)


def _outside(results: Sequence[SeedResults], names: tuple[str, ...]) -> list[str]:
    """What labels say of points that are of no class: the ceilings of the homes."""
    points = sum(one.hand_over["seen_points"] for one in results)
    said = {
        key: torch.tensor([one.hand_over["outside"][key] for one in results]).sum(dim=0)
        for key in SOURCES
    }
    share = 100 * int(said["targets"].sum()) / points
    lines = [
        f"Ceilings are of no class of the label set and {share:.0f} % of the seen training points. "
        "A label they get all the same:",
        "",
    ]
    for key, title in SOURCES.items():
        total = float(said[key].sum())
        most = said[key].argsort(descending=True)[:4].tolist()
        told = ", ".join(f"{names[i]} {100 * float(said[key][i]) / total:.0f} %" for i in most)
        lines.append(f"- {title}: {told}")
    return lines


def _gradients(results: Sequence[SeedResults]) -> list[str]:
    length = statistics.mean(one.hand_over["length"] for one in results)
    lines = [
        f"The student's outputs are {length:.0f} long where the ensemble joins; the cosine losses "
        f"leave that free. A temperature of 1 is {1 / length:.3f} in units of the cosine. Sizes of "
        "gradients there, of the cross entropy against the labels of the history as it begins, as "
        "multiples of those of the cosine losses, and the cosine of the angle between the two "
        "gradients of the weights:",
        "",
        "| labels of | outputs | temperature | gradient of outputs | of weights | angle's cosine |",
        "|---|---|---:|---:|---:|---:|",
    ]
    rows = list(zip(*(one.hand_over["gradients"] for one in results), strict=True))
    base = rows[0]
    for row in rows[1:]:
        ratio = {
            key: statistics.mean(
                mine[key] / other[key] for mine, other in zip(row, base, strict=True)
            )
            for key in ("output", "weights")
        }
        lines.append(
            f"| {row[0]['labels']} | {'unit' if row[0]['unit'] else 'raw'} "
            f"| {row[0]['temperature']:g} | {ratio['output']:.1f} | {ratio['weights']:.1f} "
            f"| {statistics.mean(one['cosine'] for one in row):+.2f} |"
        )
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}"
