"""Page of several runs side by side: its values, prepared for the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pcdistill.evaluation import Comparison, comparison_sentence, interval_note
from pcdistill.reporting.confusion_chart import ConfusionChart, confusion_chart
from pcdistill.reporting.page_numbers import Cell, interval_text, number_cell
from pcdistill.reporting.page_pictures import Swatch
from pcdistill.reporting.page_values import Bar, ClassChart, class_chart
from pcdistill.reporting.run_comparison import BEST, ComparedMethod, RunsComparison

RUN_COLORS = ("#0f7285", "#e58f3d", "#76839a", "#8f7fa3", "#a9b873", "#d9a9c2", "#bf5212")


@dataclass(frozen=True)
class ComparedLine:
    """One run in the table of a method."""

    run: str
    method: str
    """What the best one is; empty where the table names the method."""
    bar: Bar
    miou: Cell
    interval: str
    macc: Cell
    overall: str
    difference: str
    p: str


@dataclass(frozen=True)
class ComparedGroup:
    """Table of one method."""

    name: str
    lines: tuple[ComparedLine, ...]


@dataclass(frozen=True)
class ComparisonPage:
    """Everything on the page. A section that is empty is left out."""

    title: str
    lead: str
    protocol: str
    groups: tuple[ComparedGroup, ...]
    sentences: tuple[str, ...]
    shown: str
    legend: tuple[Swatch, ...]
    charts: tuple[ClassChart, ...]
    confusions: tuple[ConfusionChart, ...]
    provenance: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def comparison_page(compared: RunsComparison) -> ComparisonPage:
    """Prepare all sections of the page."""
    names = [run.name for run in compared.runs]
    colors = [RUN_COLORS[number % len(RUN_COLORS)] for number in range(len(names))]
    shown = compared.shown
    per_class = [score["per_class"] for score in shown.scores]
    measured = [n for n in compared.classes if any(one[n] is not None for one in per_class)]
    return ComparisonPage(
        title=f"{len(names)} runs side by side",
        lead=scenes_line(compared),
        protocol=compared.protocol_line,
        groups=tuple(_group(compared, method, colors) for method in compared.methods),
        sentences=comparison_sentences(compared),
        shown="the best method of each run" if shown.name == BEST else shown.name,
        legend=tuple(
            Swatch(color, f"{name}, {method}")
            for name, method, color in zip(names, shown.methods, colors, strict=True)
        ),
        charts=tuple(
            class_chart(name, names, [one[name] for one in per_class], colors) for name in measured
        ),
        confusions=tuple(
            confusion_chart(f"{name}, {method}", compared.classes, counts)
            for name, method, counts in zip(names, shown.methods, shown.confusions, strict=True)
        ),
        provenance=tuple(
            (run.name, _entries(run.title, next(iter(run.results.values()))))
            for run in compared.runs
        ),
    )


def scenes_line(compared: RunsComparison) -> str:
    """Say on which scenes the runs are compared, and which are left out."""
    scenes = len(compared.scenes)
    shown = ", ".join(compared.scenes[:8]) + (", …" if scenes > 8 else "")
    more = [
        f"{others} more of {run.name}"
        for run, others in zip(compared.runs, compared.others, strict=True)
        if others
    ]
    left_out = f"; left out are {' and '.join(more)}" if more else ""
    kind = "scene" if scenes == 1 else "scenes"
    return f"Compared on the {scenes} {kind} that all of them measured: {shown}{left_out}."


def comparison_sentences(compared: RunsComparison) -> tuple[str, ...]:
    """Say of the method that is shown which runs are ahead, behind, or not told apart."""
    shown, scenes = compared.shown, len(compared.scenes)
    first = compared.runs[0].name
    found = [
        comparison_sentence([Comparison(run.name, first, apart)], f"the {scenes} scenes")
        for run, apart in zip(compared.runs[1:], shown.differences, strict=True)
    ]
    return (*found, interval_note(scenes, "scenes"))


def _group(compared: RunsComparison, method: ComparedMethod, colors: list[str]) -> ComparedGroup:
    best = max(score["miou"] for score in method.scores)
    best_accuracy = max(score["macc"] for score in method.scores)
    apart = [None, *method.differences]
    lines = []
    for run, name, score, color, difference in zip(
        compared.runs, method.methods, method.scores, colors, apart, strict=True
    ):
        p_value = None if difference is None else difference.p_value
        lines.append(
            ComparedLine(
                run=run.name,
                method=name if method.name == BEST else "",
                bar=Bar(f"{score['miou']:.2f}", color),
                miou=number_cell(score["miou"], best),
                interval=interval_text(score["interval"]),
                macc=number_cell(score["macc"], best_accuracy),
                overall=f"{score['overall_accuracy']:.1f}",
                difference="" if difference is None else str(difference),
                p="" if p_value is None else f"{p_value:.2g}",
            )
        )
    return ComparedGroup(
        "The best of each run" if method.name == BEST else method.name, tuple(lines)
    )


def _entries(title: str, result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What made a run, by name."""
    entries = {
        "title": title,
        "label set": result["label_set"],
        "prompts": ", ".join(result["prompts"][:3]) + (", …" if len(result["prompts"]) > 3 else ""),
        "text space": result["text_space"],
        **{
            f"teacher {name}": "no revision was noted" if mark is None else str(mark)
            for name, mark in result["teachers"].items()
        },
        "votes": str(result["rules"]["votes"]),
        **result["software"],
    }
    return tuple(entries.items())
