"""Evaluation protocols: the choices behind a mean IoU, and the table of those that have a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pcdistill.errors import ConfigError
from pcdistill.evaluation.metrics import MeanOver, Unseen
from pcdistill.suggest import look_up

Average = Literal["global", "per scene"]
"""How scenes are put together.

"global": one confusion matrix of all scenes.
"per scene": each scene is scored by itself, and the numbers of those with a true point averaged.
"""

_SCORED = {"seen": "points that some frame sees", "all": "all points"}
_NO_ANSWER = {
    "seen": "of which those that a method says nothing about",
    "all": "of which those that a method says nothing about (2D features: what no frame sees)",
}
_UNSEEN = {
    "miss": "count as misses",
    "ignore": "are left out of its numbers",
    "openscene": "are left out of its IoU and are misses in its accuracy",
}
_MEAN_OVER = {
    "all": "mean over all {} classes, one without a true point counting 0",
    "present": "mean over the classes (of {}) that have a true point",
}
_AVERAGE = {
    "global": "all scenes in one confusion matrix",
    "per scene": "each scene scored by itself, then averaged",
}
_RUNS = {
    "shifted": "scores of {} runs added, each moved on the grid",
    "turned": "scores of {} runs added, each turned and scaled at random{}",
}


@dataclass(frozen=True)
class Protocol:
    """The choices behind a mean IoU; two numbers are comparable when these are equal."""

    label_set: str
    """Name of the label set."""
    mean_over: MeanOver = "present"
    """Whether classes without a true point count as 0 or not at all."""
    unseen: Unseen = "miss"
    """What points without a prediction count as."""
    points: Literal["seen", "all"] = "all"
    """Which points were scored: those that some frame sees, or all; up to who calls
    `evaluate_semantic`, where the others have the label to ignore."""
    excluded_classes: tuple[str, ...] = ()
    """Classes that the means leave out, for example wall and floor in a foreground mean."""
    votes: int = 1
    """Runs whose scores are added."""
    runs: Literal["shifted", "turned"] = "shifted"
    """How runs differ: the cloud is moved on the grid, the first time not at all; or it is turned
    and scaled at random before it is cut into voxels, as OpenScene's loaders do."""
    voxel_size: float | None = None
    """Metres, of the voxels that a turned cloud is cut into; None where it was not said."""
    prompt_template: str = "a {} in a scene"
    """What the text encoder reads for each class."""
    average: Average = "global"
    """One confusion matrix for all scenes, or the mean of each scene's own result."""
    first_classes: tuple[int, ...] = ()
    """Sizes K that are scored too, as if the label set had its first K classes only: nothing else
    is predicted, and points of other classes take no part."""
    published: Literal["", "openscene"] = ""
    """The published protocol that this is, where it departs from it nowhere, or was made of."""
    name: str = ""
    """What `PROTOCOLS` calls it."""

    @property
    def departures(self) -> tuple[str, ...]:
        """What differs from the published protocol, in words; empty where nothing does."""
        if not self.published:
            return ()
        own = PROTOCOLS[self.published]
        published_voxels = OPENSCENE_LABEL_SETS.get(self.label_set, self.voxel_size)
        found = [
            f"{_SCORED[self.points]} instead of {_SCORED[own.points]}"
            if self.points != own.points
            else "",
            f"{_count(self.votes)} instead of {own.votes}" if self.votes != own.votes else "",
            f"the prompt '{self.prompt_template}' instead of '{own.prompt_template}'"
            if self.prompt_template != own.prompt_template
            else "",
            f"voxels of {self.voxel_size:g} m instead of {published_voxels:g} m"
            if self.voxel_size not in (None, published_voxels)
            else "",
            f"the label set {self.label_set}, which it does not know"
            if self.label_set not in OPENSCENE_LABEL_SETS
            else "",
            f"without {', '.join(self.excluded_classes)}" if self.excluded_classes else "",
        ]
        return tuple(words for words in found if words)

    def facts(self) -> dict[str, Any]:
        """All choices as JSON values, for a file of results."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    def arithmetic_facts(self) -> dict[str, Any]:
        """The choices that are of the arithmetic alone, as `describe_arithmetic`."""
        facts, known = self.facts(), ("name", "label_set", "unseen", "mean_over", "average")
        return {key: facts[key] for key in (*known, "excluded_classes")}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Protocol:
        """Make the protocol whose `facts` these are.

        Raises:
            TypeError: there is a choice that it has not.
        """
        choices: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()
        }
        return cls(**choices)

    def describe(self, classes: int, *, silent: bool = True) -> str:
        """Describe the protocol in one line, for a report of `classes` classes.

        Args:
            classes: of the label set.
            silent: whether a method may say nothing about a scored point, as 2D features do where
                no frame sees it; a student has an answer for every point.
        """
        scored = _SCORED[self.points]
        if silent:
            scored = f"{scored}, {_NO_ANSWER[self.points]} {_UNSEEN[self.unseen]}"
        parts = [
            *([self._claim()] if self.published else []),
            scored,
            f"label set {self.label_set}",
            *self._said_of_means(classes),
            self._said_of_runs(),
            f"prompt '{self.prompt_template}'",
        ]
        return self._named("; ".join(parts))

    def describe_arithmetic(self, classes: int) -> str:
        """Describe how labels become one number, whoever predicted them, for `classes` classes."""
        parts = [
            f"points without a prediction {_UNSEEN[self.unseen]}",
            f"label set {self.label_set}",
            *self._said_of_means(classes),
        ]
        return self._named("; ".join(parts))

    def _named(self, line: str) -> str:
        return f"'{self.name}': {line}" if self.name else line

    def _said_of_means(self, classes: int) -> list[str]:
        without = f"without {', '.join(self.excluded_classes)}"
        first = f"also among the first {' and '.join(map(str, self.first_classes))} classes alone"
        return [
            _MEAN_OVER[self.mean_over].format(classes - len(self.excluded_classes)),
            *([without] if self.excluded_classes else []),
            *([first] if self.first_classes else []),
            _AVERAGE[self.average],
        ]

    def _claim(self) -> str:
        departures = self.departures
        return (
            f"OpenScene's protocol but for {', '.join(departures)}"
            if departures
            else ("OpenScene's protocol")
        )

    def _said_of_runs(self) -> str:
        size = "" if self.voxel_size is None else f", in voxels of {self.voxel_size:g} m"
        if self.votes > 1:
            return _RUNS[self.runs].format(self.votes, size)
        turned = f"one run, turned and scaled at random{size}"
        return turned if self.runs == "turned" else "one run"


def _count(runs: int) -> str:
    return "one run" if runs == 1 else f"{runs} runs"


OPENSCENE_LABEL_SETS = {
    **dict.fromkeys(("scannet20", "matterport21", "matterport40"), 0.02),
    **dict.fromkeys(("matterport80", "matterport160"), 0.02),
    "nuscenes16": 0.05,
}
"""What OpenScene's evaluation knows, with the edge of its voxels there, in metres."""
OPENSCENE = Protocol(
    label_set="scannet20",
    mean_over="all",
    unseen="openscene",
    votes=5,
    runs="turned",
    published="openscene",
    name="openscene",
)
"""OpenScene's protocol on ScanNet; `get_protocol("openscene", ...)` for other data sets.

Of every point of the cloud: five runs with added scores, each turned and scaled at random before it
is cut into voxels (its loaders are built with augmentation in evaluation too), 2D features those of
each voxel's first point; a fixed denominator of all classes, absent classes counting 0; points
whose voxel had no feature in the last run out of the IoU but in the accuracy; prompt "a XX in a
scene", "other" as it is. Its scores are added in half precision; here they are not rounded.

Source: OpenScene, run/evaluate.py, dataset/feature_loader.py, dataset/voxelizer.py,
dataset/point_loader.py, util/metric.py, config/*/ours_*_pretrained.yaml.
"""

LONG_TAIL: dict[str, tuple[int, ...]] = {
    "matterport21": (),
    "matterport40": (),
    "matterport80": (40,),
    "matterport160": (40, 80),
}
"""Label sets of Matterport3D's long tail -> sizes of the sets that its first classes are.

The classes of `matterport40` and `80` are the first of `matterport160`; those of `matterport21` are
other ones.

Source: OpenScene, dataset/label_constants.py and Tab. 4 (K = 21, 40, 80, 160).
"""
BACKGROUND = (
    *("wall", "floor", "ceiling"),
    *("drivable surface", "other flat", "sidewalk", "terrain", "manmade", "vegetation"),
)
"""What `foreground` leaves out where a label set has it: rooms, and what nuScenes calls stuff."""

PROTOCOLS: dict[str, Protocol] = {
    known.name: known
    for known in (
        OPENSCENE,
        Protocol(label_set="", name="standard"),
        Protocol(label_set="", excluded_classes=BACKGROUND, name="foreground"),
        Protocol(label_set="", average="per scene", name="per scene"),
        replace(OPENSCENE, label_set="", name="long tail"),
        Protocol(label_set="", points="seen", name="every point"),
        Protocol(label_set="", unseen="ignore", points="seen", name="seen"),
    )
}
"""By the name a configuration uses; label set, and what depends on it, are filled in.

Under "standard" every point with a label is scored, in one matrix, over the classes that there are.
"foreground" and "per scene" are the same but for the means. "long tail" is OpenScene's, with a
number for each K of `LONG_TAIL`. Under "seen" each method is scored on the points it has an answer
for, under "every point" all methods on the same points that some frame sees, so that leaving points
unanswered does not pay.
"""


def get_protocol(
    name: str,
    label_set: str,
    classes: Sequence[str],
    *,
    votes: int | None = None,
    prompt_template: str | None = None,
    points: Literal["seen", "all"] | None = None,
    voxel_size: float | None = None,
) -> Protocol:
    """Give the protocol of a name for one label set.

    Args:
        name: a key of `PROTOCOLS`.
        label_set: name of the label set that is scored.
        classes: of the label set; the protocol leaves out those of its excluded ones that it has.
        votes: runs whose scores are added; the protocol's own number by default.
        prompt_template: what the text encoder reads; the protocol's own by default.
        points: which points are scored; the protocol's own by default.
        voxel_size: metres, of the voxels that turned clouds are cut into, where it is known.

    Raises:
        ConfigError: no protocol has that name, or it is not for this label set.
    """
    known = look_up("protocol", name, PROTOCOLS)
    excluded = tuple(one for one in known.excluded_classes if one in classes)
    if bool(known.excluded_classes) != bool(excluded) or len(excluded) == len(classes) > 0:
        left = "no other class than" if excluded else "none of"
        raise ConfigError(
            f"protocol '{name}' leaves out {', '.join(known.excluded_classes)}, but label set "
            f"'{label_set}' has {left} these; take the protocol standard"
        )
    if name == "long tail" and label_set not in LONG_TAIL:
        raise ConfigError(
            f"protocol 'long tail' is for {', '.join(LONG_TAIL)}, got label set '{label_set}'; "
            "take the protocol openscene"
        )
    return replace(
        known,
        label_set=label_set,
        excluded_classes=excluded,
        first_classes=LONG_TAIL[label_set] if name == "long tail" else (),
        votes=known.votes if votes is None else votes,
        prompt_template=known.prompt_template if prompt_template is None else prompt_template,
        points=known.points if points is None else points,
        voxel_size=voxel_size if known.runs == "turned" else None,
    )
