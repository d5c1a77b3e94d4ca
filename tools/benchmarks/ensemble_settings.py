"""Settings of the temporal ensemble that the benchmark `ensemble` holds against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class LabelSettings:
    """How labels join the distillation; what the paper prints by default."""

    weight: float = 1.0
    """Multiplies the cross entropies (Eq. 13); 0 for no labels at all."""
    decay: float = 0.9
    """Alpha of Eq. 11; 1 never changes what the history began with."""
    epochs: int = 12
    """Last epochs of the training in which labels take part."""
    begins_with: Literal["student", "targets"] = "student"
    """First entry of the history: what the student says of a scene, averaged over superpoints, or
    the means of the fused 2D features that it learns from."""
    point_labels: Literal["point", "superpoint"] = "point"
    """Whose history labels a point."""
    words: Literal["label set", "vocabulary"] = "label set"
    """What labels are chosen from."""
    unit: bool = False
    """Scale the student's outputs to length 1, in the history and in the scores."""
    temperature: float = 1.0
    """Divides the scores before the softmax."""
    kept: float = 1.0
    """Share of a scene's labels that count: those whose best score is farthest ahead."""
    balance: float = 0.0
    """A label counts by its class's inverse frequency to this power."""
    agreeing: bool = False
    """Drop labels that are not what the 2D target of the superpoint says."""
    join_agreement: float = 0.0
    """A scene joins once this share of its labels is what its targets say."""
    half: bool = False
    """Round the history to half precision after each update, as the released code does."""
    cosine: bool = True
    """Keep the distillation losses beside the labels; the released code drops them."""


PAPER = LabelSettings()
TARGETS = LabelSettings(begins_with="targets", decay=1.0)
"""Labels of the 2D targets, which never change; otherwise as published."""
COSINE_TARGETS = LabelSettings(begins_with="targets", decay=1.0, unit=True, temperature=0.1)
"""The same with cosines for scores; the default of the product."""
OFF = "without"
"""What every setting is held against: the same epochs without labels."""

_RELEASE = replace(PAPER, decay=0.9999, half=True, point_labels="superpoint", cosine=False)

SETTINGS: dict[str, LabelSettings] = {
    OFF: replace(PAPER, weight=0.0),
    "paper": PAPER,
    "release": _RELEASE,
    "paper, weight 0.1": replace(PAPER, weight=0.1),
    "paper, weight 0.01": replace(PAPER, weight=0.01),
    "paper, cosines": replace(PAPER, unit=True, temperature=0.1),
    "paper, temperature 10": replace(PAPER, temperature=10.0),
    "paper, decay 0.99": replace(PAPER, decay=0.99),
    "paper, decay 0.5": replace(PAPER, decay=0.5),
    "paper, last 6 epochs": replace(PAPER, epochs=6),
    "paper, last 30 epochs": replace(PAPER, epochs=30),
    "paper, superpoint labels": replace(PAPER, point_labels="superpoint"),
    "paper, vocabulary": replace(PAPER, words="vocabulary"),
    "paper, surest half": replace(PAPER, kept=0.5),
    "paper, balanced": replace(PAPER, balance=0.5),
    "paper, agreeing": replace(PAPER, agreeing=True),
    "paper, cosines, agreeing": replace(PAPER, unit=True, temperature=0.1, agreeing=True),
    "paper, joins at 0.7": replace(PAPER, join_agreement=0.7),
    "targets": TARGETS,
    "targets, weight 0.1": replace(TARGETS, weight=0.1),
    "targets, temperature 10": replace(TARGETS, temperature=10.0),
    "cosine targets": COSINE_TARGETS,
    "cosine targets, temperature 0.04": replace(COSINE_TARGETS, temperature=0.04),
    "cosine targets, temperature 0.3": replace(COSINE_TARGETS, temperature=0.3),
    "cosine targets, weight 0.1": replace(COSINE_TARGETS, weight=0.1),
    "cosine targets, decay 0.9": replace(COSINE_TARGETS, decay=0.9),
    "cosine targets, last 6 epochs": replace(COSINE_TARGETS, epochs=6),
    "cosine targets, last 30 epochs": replace(COSINE_TARGETS, epochs=30),
    "cosine targets, vocabulary": replace(COSINE_TARGETS, words="vocabulary"),
    "cosine targets, surest half": replace(COSINE_TARGETS, kept=0.5),
    "cosine targets, balanced": replace(COSINE_TARGETS, balance=0.5),
    "cosine targets, no superpoint loss": replace(COSINE_TARGETS, cosine=False),
}
"""Name -> settings: none, those of the paper and the release, then one change at a time from the
paper's, then from labels of the targets, whose best is `cosine targets`."""


def differences(name: str) -> str:
    """What a setting has other than the paper's."""
    settings = SETTINGS[name]
    if not settings.weight:
        return "no labels"
    changed = [
        f"{key.replace('_', ' ')} {_said(value)}"
        for key, value in vars(settings).items()
        if value != getattr(PAPER, key)
    ]
    return ", ".join(changed) or "as printed (decay 0.9, which is not)"


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
