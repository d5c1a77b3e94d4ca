"""What several seeds of the homes measured, and how far the rows are apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.evaluation import (
    Agreement,
    Comparison,
    PairedDifference,
    Protocol,
    paired_difference,
    rank_agreement,
)
from pcdistill.inference.methods import BINARY, ORACLE, POOLED, SHUFFLED, VOXELS
from pcdistill.inference.true_capability import words_to_compare
from pcdistill.pipeline.result_files import result_confusion

RANK_GOAL = 0.7
"""Spearman's correlation of measured with true capability that fusion by it is built on."""


class Seed(NamedTuple):
    """What stage evaluate wrote of one seed, with one number of cuts."""

    rows: Mapping[str, Mapping[str, Any]]
    """`result.json` of each row, in the order of the table."""
    capability: Mapping[str, Any]
    """`evaluation/capability.json`."""


class Row(NamedTuple):
    """One row of the table, in per cent: mean over the seeds and sample standard deviation."""

    miou: float
    miou_sd: float
    macc: float
    macc_sd: float
    per_class: Mapping[str, float | None]
    """Mean IoU; None for a class without a true point in any seed."""


@dataclass(frozen=True)
class Numbers:
    """All that was measured."""

    single: Sequence[Seed]
    """S seeds, one cut into voxels."""
    voted: Sequence[Seed]
    """The same with several cuts."""
    votes: int
    """How many."""
    classes: tuple[str, ...]
    """Of the label set, in its order."""
    protocol: Protocol
    """That of the runs; how often they looked does not matter here."""
    vocabulary: tuple[str, ...]
    """K words on which teachers are compared."""

    @property
    def names(self) -> tuple[str, ...]:
        """Rows that every seed has, in the order of the table."""
        seeds = (*self.single, *self.voted)
        return tuple(n for n in self.single[0].rows if all(n in seed.rows for seed in seeds))

    @property
    def teachers(self) -> tuple[str, ...]:
        """Rows of teachers."""
        return tuple(name for name in self.names if name.startswith("teacher:"))

    @property
    def best_student(self) -> str:
        """The student with the highest mean over the seeds, with several cuts."""
        students = [name for name in self.names if name.startswith("student:")]
        return max(students, key=lambda name: self.row(name, voted=True).miou)

    def row(self, name: str, *, voted: bool = False) -> Row:
        """A row's numbers."""
        same = [seed.rows[name] for seed in (self.voted if voted else self.single)]
        return Row(
            statistics.mean(row["miou"] for row in same),
            spread([row["miou"] for row in same]),
            statistics.mean(row["macc"] for row in same),
            spread([row["macc"] for row in same]),
            {key: mean_of([row["per_class"][key] for row in same]) for key in self.classes},
        )

    def compare(self, first: str, second: str, *, voted: bool = False) -> Comparison:
        """Compare two rows with the same cuts, over all seeds and their homes.

        Args:
            first: name of a row.
            second: name of the row that it is held against.
            voted: with several cuts instead of one.
        """
        apart = paired_difference(
            self._confusions(first, voted),
            self._confusions(second, voted),
            unseen=self.protocol.unseen,
            mean_over=self.protocol.mean_over,
            average=self.protocol.average,
        )
        return Comparison(first, second, apart)

    def _confusions(self, name: str, voted: bool) -> Tensor:
        """(S, H, M, K + 1, K) of a row."""
        seeds = self.voted if voted else self.single
        return torch.stack([result_confusion(s.rows[name], len(self.classes)) for s in seeds])

    @property
    def fusion(self) -> list[Comparison]:
        """Teachers, average and fusion, then what fusion is held against."""
        return [
            *(self.compare("average", teacher) for teacher in self.teachers),
            *(self.compare("fused", other) for other in ("average", "linear", BINARY, SHUFFLED)),
            self.compare(ORACLE, "fused"),
        ]

    @property
    def fused_ahead(self) -> list[float]:
        """Points of mIoU, seed by seed: fused less the best of teachers, average and linear."""
        others = (*self.teachers, "average", "linear")
        return [
            seed.rows["fused"]["miou"] - max(seed.rows[name]["miou"] for name in others)
            for seed in self.single
        ]

    def student(self, name: str, *, voted: bool) -> list[Comparison]:
        """A student and what it is to reach."""
        return [self.compare(name, other, voted=voted) for other in (VOXELS, "fused", POOLED)]

    def agreement(self, seeds: Sequence[Seed] | None = None) -> Agreement:
        """Measured and true capability over all teachers, taught words and seeds together."""
        tables = [self._tables(seed.capability) for seed in seeds or self.single]
        return rank_agreement(*(torch.cat(parts) for parts in zip(*tables, strict=True)))

    @property
    def agreement_of_means(self) -> Agreement:
        """The same of the mean of each teacher's number on each word over the seeds."""
        tables = [self._tables(seed.capability) for seed in self.single]
        measured, true, taught = (torch.stack(parts) for parts in zip(*tables, strict=True))
        return rank_agreement(measured.mean(dim=0), true.nanmean(dim=0), taught.any(dim=0))

    def _tables(self, capability: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """(T, K) each: measured, true (NaN where nothing is known), and what is compared."""
        told = capability["teachers"].values()
        measured, true = (
            torch.tensor([[_number(t[key][word]) for word in self.vocabulary] for t in told])
            for key in ("measured", "true")
        )
        taught = [teacher["taught"] for teacher in told]
        return measured, true, words_to_compare(self.vocabulary, taught, measured, true)

    @property
    def shortfalls(self) -> list[str]:
        """What was to come out and did not, in sentences; empty where all did."""
        wanted = [
            *self.fusion[: len(self.teachers)],
            self.compare("fused", "average"),
            self.compare("fused", SHUFFLED),
        ]
        missed = [
            _missed(one, "is not ahead of") + self._why(one)
            for one in wanted
            if one.apart.verdict != "ahead"
        ]
        behind = [number + 1 for number, ahead in enumerate(self.fused_ahead) if ahead < 0]
        if behind:
            missed.append(
                "fused is behind the best of teachers, average and linear on "
                f"{len(behind)} of {len(self.single)} seeds (the least difference is "
                f"{min(self.fused_ahead):+.1f})"
            )
        for voted in (False, True):
            one = self.compare(self.best_student, VOXELS, voted=voted)
            if one.apart.difference < 0:
                looks = f"{self.votes} cuts" if voted else "one cut"
                missed.append(f"{_missed(one, 'does not reach')}, both with {looks}")
        rank = self.agreement()
        if rank.spearman is None or rank.spearman < RANK_GOAL:
            found = "none" if rank.spearman is None else f"{rank.spearman:.2f}"
            missed.append(
                "the rank correlation of measured capability with true IoU is "
                f"{found} (n = {rank.classes}), less than {RANK_GOAL}"
            )
        return missed

    def _why(self, missed: Comparison) -> str:
        """What holds back the plain average, if it is that: teachers that do not know a class."""
        if missed.first != "average":
            return ""
        apart = self.compare(BINARY, "average").apart
        return (
            f"; {BINARY}, which averages but leaves a teacher out where no capability was "
            f"measured, is {apart} from it"
        )

    def summary(self) -> dict[str, Any]:
        """The numbers as JSON values."""
        rows = {name: self.row(name) for name in self.names}
        best = self.best_student
        differences = [*self.fusion, *self.student(best, voted=False)]
        return {
            "protocol": self.single[0].rows[self.names[0]]["protocol"],
            "miou": {name: row.miou for name, row in rows.items()},
            "miou_sd": {name: row.miou_sd for name, row in rows.items()},
            f"miou_{self.votes}_cuts": {n: self.row(n, voted=True).miou for n in self.names},
            "differences": [_as_json(one) for one in differences],
            f"differences_{self.votes}_cuts": [
                _as_json(one) for one in self.student(best, voted=True)
            ],
            "fused_ahead_of_best": self.fused_ahead,
            "spearman": self.agreement().spearman,
            "spearman_n": self.agreement().classes,
            "not_reached": self.shortfalls,
        }


def _missed(one: Comparison, verb: str) -> str:
    unsure = " (which the homes cannot tell from 0)" if one.apart.verdict == "no difference" else ""
    return f"{one.first} {verb} {one.second}: {one.apart}{unsure}"


def _as_json(one: Comparison) -> dict[str, Any]:
    apart: PairedDifference = one.apart
    return {"first": one.first, "second": one.second, **vars(apart)}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are there."""
    there = [value for value in values if value is not None]
    return statistics.mean(there) if there else None
