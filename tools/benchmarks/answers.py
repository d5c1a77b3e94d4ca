"""How often a question is answered that has no answer, and how often one that has goes without.

Asked of every scene of finished runs that has true labels: the classes of the label set, by their
names; other words and phrases for some of them; and things that are in no home, as names and as
phrases. A class counts as there with 200 points or more. `nothing` is the share of questions about
what is there that are told there is nothing like it, `right` the share with an answer mostly
of that class, `answered` the share of questions about what is not there that get an answer. The
overlap of a place is its points and those of a connected thing of the class, shared by all of both;
`overlap` is the mean over the questions of that of the first answer, `overlap_5` of the best of the
first five, nothing for a question without any. Lists and homes on which the rule was chosen are
told apart from those that no choice has seen: training homes are of the first kind, with
`CHOSEN_ON` of the words, validation homes of the second.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.inference import FinishedRun, QueryMatch, class_instances, open_run
from pcdistill.scenes import open_scene

POINTS = 200
"""Of a class, from which it is there."""


class Words(NamedTuple):
    """What is asked."""

    meaning: Mapping[str, str]
    """Other word or phrase -> class."""
    absent: tuple[str, ...]
    """Names of what is in no home."""
    absent_phrases: tuple[str, ...]
    """The same in three words or more."""


CHOSEN_ON = Words(
    {
        **{"couch": "sofa", "fridge": "refrigerator", "armchair": "chair", "painting": "picture"},
        **{"kitchen sink": "sink", "mattress": "bed", "cupboard": "cabinet", "seat": "chair"},
        **{"doorway": "door", "tub": "bathtub", "a place to sleep": "bed"},
        **{"a place to take a bath": "bathtub", "a place to sit": "chair"},
    },
    (
        *("airplane", "horse", "tree", "bicycle", "boat", "guitar", "elephant", "car", "bridge"),
        *("mountain", "dog", "fountain", "train", "tractor", "swimming pool", "road", "sheep"),
        *("helicopter", "ladder", "piano", "cow", "river", "tent", "truck", "castle", "umbrella"),
        *("bus", "church", "waterfall", "ship", "street lamp", "kangaroo"),
    ),
    (),
)
"""With these the rule was chosen, on training homes."""
UNSEEN = Words(
    {
        **{"sofas": "sofa", "freezer": "refrigerator", "rocking chair": "chair"},
        **{"artwork": "picture", "washbasin": "sink", "bunk bed": "bed", "wardrobe": "cabinet"},
        **{"lavatory": "toilet", "dining table": "table", "bookcase": "bookshelf"},
        **{"the thing one sleeps in": "bed", "something to keep food cold": "refrigerator"},
        **{"somewhere to wash the dishes": "sink", "a comfortable seat for two": "sofa"},
    },
    (
        *("submarine", "zebra", "windmill", "motorcycle", "volcano", "trumpet", "whale", "taxi"),
        *("stadium", "glacier", "penguin", "cannon", "canoe", "runway", "meadow"),
        *("crane", "harp", "lighthouse", "desert", "scarecrow", "railway", "parrot", "tank"),
    ),
    (
        *("a place to land a plane", "something to row across a lake", "an animal with stripes"),
        *("a machine that cuts grass", "a vehicle with two wheels", "a boat with white sails"),
        *("a place to park a car", "a bird that cannot fly", "a mountain full of snow"),
    ),
)
"""With these the numbers are told, on validation homes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs with labels")
    parser.add_argument("--method", help="whose features answer; by default the best measured")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ask everything of both kinds of homes."""
    runs = [open_run(folder) for folder in arguments.runs]
    method = arguments.method or runs[0].best_method
    return {
        "method": method,
        "chosen_on": shares(runs, "training", CHOSEN_ON, method),
        "unseen": shares(runs, "validation", UNSEEN, method),
    }


def shares(runs: Sequence[FinishedRun], side: str, words: Words, method: str) -> dict[str, Any]:
    """Per cent of each kind, over the questions to the scenes of one side of the runs."""
    told: dict[str, list[float]] = {}
    for one in runs:
        names = one.class_names
        questions = {name: name for name in names if not name.startswith("other")}
        for scene in getattr(one.artifacts.scenes, side):
            there = things_of(one, scene)
            if not there:
                continue
            for kind, asked in (("classes", questions), ("others", words.meaning)):
                for text, name in asked.items():
                    if name not in there:
                        continue
                    found = answers(one, scene, text, method)
                    told.setdefault(f"{kind}_nothing", []).append(not found)
                    right = any(answer.truth == name for answer in found)
                    told.setdefault(f"{kind}_right", []).append(right)
                    places = [overlap(answer.rows, there[name]) for answer in found[:5]] or [0.0]
                    told.setdefault(f"{kind}_overlap", []).append(places[0])
                    told.setdefault(f"{kind}_overlap_5", []).append(max(places))
            absent = {"absent_answered": words.absent, "phrases_answered": words.absent_phrases}
            for kind, texts in absent.items():
                for text in texts:
                    told.setdefault(kind, []).append(bool(answers(one, scene, text, method)))
    if not told:
        raise SystemExit(f"no {side} scene of the runs has labels, expected some to compare with")
    return {
        kind: {"percent": round(100 * sum(found) / len(found), 1), "questions": len(found)}
        for kind, found in told.items()
    }


def things_of(asked: FinishedRun, scene: str) -> dict[str, Tensor]:
    """Classes that a scene has; none where it has no labels, or is not there.

    Returns:
        (N,) int32 for each: the connected thing of the class that a point is of, -1 for none.
    """
    folder = asked.artifacts.workspace.scene(scene)
    if not folder.is_dir():
        return {}
    opened = open_scene(folder)
    if opened.labels is None:
        return {}
    points = torch.arange(len(opened.points))
    found = {}
    for label, name in enumerate(asked.class_names):
        mine = opened.labels == label
        if int(mine.sum()) >= POINTS:
            of_class = torch.where(mine, opened.labels.long(), -1)
            found[name] = class_instances(opened.points, points, of_class)
    return found


def overlap(rows: Tensor, things: Tensor) -> float:
    """Points that a place shares with the thing it shares most with, of all points of both."""
    inside = things[rows]
    inside = inside[inside >= 0]
    if len(inside) == 0:
        return 0.0
    thing = int(inside.bincount().argmax())
    shared = int((inside == thing).sum())
    return shared / (len(rows) + int((things == thing).sum()) - shared)


def answers(asked: FinishedRun, scene: str, text: str, method: str) -> tuple[QueryMatch, ...]:
    """The places that answer, best first."""
    return asked.querier.query_scene(text, scene, top_k=100, method=method).answers
