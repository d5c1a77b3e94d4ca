"""Comparison of several finished runs on the scenes that all of them measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import ConfigError
from pcdistill.evaluation import PairedDifference, Protocol, confusion_counts, paired_difference
from pcdistill.inference import MethodTable, score_draws
from pcdistill.pipeline import Workspace, load_workspace_config, read_json
from pcdistill.suggest import suggest

BEST = "best"
"""Stands for the best measured method of each run."""
_NEEDED = ("rules", "classes", "class_groups", "confusion", "label_set")


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A finished run and what it measured."""

    name: str
    """Its workspace, as it was named."""
    title: str
    results: Mapping[str, Mapping[str, Any]]
    """What stage evaluate wrote of each measured method, in the order of the table."""
    answering: tuple[str, ...]
    """Methods of which the best one answers: all but baselines and the oracle."""

    @property
    def best(self) -> str:
        """The measured method with the highest mIoU, baselines and the oracle aside."""
        known = [name for name in self.results if name in self.answering] or list(self.results)
        return max(known, key=lambda name: float(self.results[name]["miou"]))


@dataclass(frozen=True, eq=False)
class ComparedMethod:
    """One method in every run, on the scenes that all of them measured."""

    name: str
    """Of the method, or `best`."""
    methods: tuple[str, ...]
    """What it is in each run."""
    scores: tuple[Mapping[str, Any], ...]
    """For each run its numbers, `score_draws`."""
    confusions: tuple[Tensor, ...]
    """For each run (K + 1, K) int64 points by predicted and true category, of the first draw."""
    differences: tuple[PairedDifference, ...]
    """How far each run after the first is ahead of the first."""


@dataclass(frozen=True, eq=False)
class RunsComparison:
    """Several runs side by side."""

    runs: tuple[ComparedRun, ...]
    scenes: tuple[str, ...]
    """That every run measured and that have labels."""
    others: tuple[int, ...]
    """For each run how many more scenes it measured."""
    classes: tuple[str, ...]
    label_set: str
    protocol: Protocol
    methods: tuple[ComparedMethod, ...]

    @property
    def protocol_line(self) -> str:
        """The protocol that all were measured under."""
        return self.protocol.describe(len(self.classes))

    @property
    def shown(self) -> ComparedMethod:
        """The method that is drawn class by class: the best of each run, or the only one."""
        return self.methods[-1]


def compare_runs(workspaces: Sequence[Path], method: str | None = None) -> RunsComparison:
    """Compare finished runs on the scenes, and under the protocol, that they have in common.

    Args:
        workspaces: of at least two runs; the others are compared with the first.
        method: the method to compare, or `best`, which takes the best measured one of each run; by
            default every method that all of them have, and then the best ones.

    Raises:
        ConfigError: a run is named twice or is none, nothing was measured in it, or protocols,
            classes, scenes or scored points are not the same.
        ArtifactError: a file of a run is damaged.
    """
    runs = tuple(map(_open_run, workspaces))
    for number, folder in enumerate(workspaces):
        if folder.resolve() in [other.resolve() for other in workspaces[:number]]:
            raise ConfigError(f"{folder}: is named twice, expected different runs; leave one out")
    first = next(iter(runs[0].results.values()))
    for run in runs:
        for name, result in run.results.items():
            _require_alike(runs[0], first, run, name, result)
    labelled = [set(_labelled(run)) for run in runs]
    scenes = tuple(name for name in _labelled(runs[0]) if all(name in known for known in labelled))
    if not scenes:
        raise ConfigError(
            f"{runs[0].name} and {runs[-1].name} have no measured scene in common, expected some "
            "to compare on; measure the same scenes (ingest.validation_list)"
        )
    return RunsComparison(
        runs,
        scenes,
        tuple(len(known) - len(scenes) for known in labelled),
        tuple(first["classes"]),
        first["label_set"],
        Protocol.from_facts(first["rules"]),
        tuple(_compare(runs, name, scenes) for name in _chosen_methods(runs, method)),
    )


def _open_run(folder: Path) -> ComparedRun:
    config = load_workspace_config(folder)
    workspace = Workspace(folder)
    results = {}
    table = MethodTable(config.run.teachers, config.distill.student_names)
    for name in table.names:
        path = workspace.result(name)
        found = read_json(path) if path.exists() else None
        if found is None or found["miou"] is None:
            continue
        if any(key not in found for key in _NEEDED):
            raise ConfigError(
                f"{folder}: '{name}' was measured by an older version, which did not note the "
                f"protocol's choices; measure it anew: pcdistill evaluate {folder}"
            )
        results[name] = found
    if not results:
        raise ConfigError(
            f"{folder}: nothing was measured there, expected scenes with true labels; finish the "
            f"run: pcdistill evaluate {folder}"
        )
    return ComparedRun(str(folder), config.run.title, results, table.answering)


def _require_alike(
    reference: ComparedRun,
    expected: Mapping[str, Any],
    run: ComparedRun,
    name: str,
    result: Mapping[str, Any],
) -> None:
    """Refuse a method that was measured under another protocol, or with other classes.

    Args:
        reference: the first run.
        expected: a result of it.
        run: the run of the method.
        name: of the method.
        result: of the method.

    Raises:
        ConfigError: they differ; says in what.
    """
    rules, wanted = result["rules"], expected["rules"]
    differing = [key for key in wanted | rules if rules.get(key) != wanted.get(key)]
    if result["label_set"] != expected["label_set"]:
        differing.insert(0, "label_set")
        rules, wanted = result, expected
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{run.name}: '{name}' was measured with {key} {rules.get(key)!r}, expected "
            f"{wanted.get(key)!r} as in {reference.name}; measure both under one protocol "
            "(evaluate.protocol)"
        )
    if result["classes"] != expected["classes"]:
        raise ConfigError(
            f"{run.name}: the classes of '{name}' are not those of {reference.name}, though both "
            f"are called {result['label_set']}; measure both with one label set (run.label_set)"
        )


def _labelled(run: ComparedRun) -> list[str]:
    """Scenes with labels that every method of a run measured."""
    measured = [result["confusion"][0] for result in run.results.values()]
    return [name for name in measured[0] if all(name in known for known in measured)]


def _chosen_methods(runs: Sequence[ComparedRun], method: str | None) -> list[str]:
    common = [name for name in runs[0].results if all(name in run.results for run in runs)]
    if method is None:
        return [*common, BEST]
    if method != BEST and method not in common:
        raise ConfigError(
            f"--method is '{method}', which not all of {', '.join(run.name for run in runs)} "
            f"measured; {suggest(method, [*common, BEST])}"
        )
    return [method]


def _compare(runs: Sequence[ComparedRun], name: str, scenes: Sequence[str]) -> ComparedMethod:
    methods = [run.best if name == BEST else name for run in runs]
    results = [run.results[own] for run, own in zip(runs, methods, strict=True)]
    first = results[0]
    classes, protocol = first["classes"], Protocol.from_facts(first["rules"])
    groups: dict[str, list[int]] = {}
    for number, group in enumerate(first["class_groups"]):
        groups.setdefault(group, []).append(number)
    counts = [_scene_counts(result, scenes) for result in results]  # each (H, M, K + 1, K)
    for run, own in zip(runs[1:], counts[1:], strict=True):
        _require_same_points(runs[0], run, name, scenes, counts[0], own)
    differences = tuple(
        paired_difference(
            own[None],
            counts[0][None],
            unseen=protocol.unseen,
            mean_over=protocol.mean_over,
            average=protocol.average,
            excluded_classes=tuple(map(classes.index, protocol.excluded_classes)),
        )
        for own in counts[1:]
    )
    return ComparedMethod(
        name,
        tuple(methods),
        tuple(score_draws([list(one) for one in own], classes, protocol, groups) for own in counts),
        tuple(own[:, 0].sum(dim=0) for own in counts),
        differences,
    )


def _scene_counts(result: Mapping[str, Any], scenes: Sequence[str]) -> Tensor:
    """(H, M, K + 1, K) int64 of some scenes, M draws."""
    classes = len(result["classes"])
    return torch.stack(
        [
            torch.stack([confusion_counts(draw[name], classes) for draw in result["confusion"]])
            for name in scenes
        ]
    )


def _require_same_points(
    reference: ComparedRun,
    run: ComparedRun,
    method: str,
    scenes: Sequence[str],
    expected: Tensor,
    found: Tensor,
) -> None:
    """Refuse runs that did not score the same points of a scene.

    Args:
        reference: the first run.
        run: another.
        method: the method that is compared.
        scenes: H names.
        expected: (H, M, K + 1, K) counts of the first run.
        found: of the other.

    Raises:
        ConfigError: the true points of a class of a scene are not as many.
    """
    true = [counts[:, 0].sum(dim=1) for counts in (expected, found)]  # (H, K)
    wrong = (true[0] != true[1]).any(dim=1).nonzero()[:, 0].tolist()
    if wrong:
        points = [int(counts[wrong[0]].sum()) for counts in true]
        raise ConfigError(
            f"{run.name}: scored {points[1]} points of {scenes[wrong[0]]} for '{method}', expected "
            f"the same {points[0]} as {reference.name}; lift both alike, or score all points of "
            "both (evaluate.scored_points: all)"
        )
