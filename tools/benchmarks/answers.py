"""How often a question is answered that has no answer, and how often one that has goes without.

Asked of every scene of finished runs that has true labels: the classes of the label set, by their
names; other words and phrases for some of them; and things that are in no home, as names and as
phrases. A class counts as there with 200 points or more. `nothing` is the share of questions about
what is there that are told there is nothing like it, `right` the share with an answer mostly
of that class, `answered` the share of questions about what is not there that get an answer. Lists
and homes on which the rule was chosen are told apart from those that no choice has seen: training
homes are of the first kind, with `CHOSEN_ON` of the words, validation homes of the second.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.inference import FinishedRun, open_run
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
    """Per cent of the questions of each kind, over the scenes of one side of the runs."""
    told: dict[str, list[bool]] = {}
    for one in runs:
        names = one.class_names
        questions = {name: name for name in names if not name.startswith("other")}
        for scene in getattr(one.artifacts.scenes, side):
            there = classes_of(one, scene)
            if not there:
                continue
            for kind, asked in (("classes", questions), ("others", words.meaning)):
                for text, name in asked.items():
                    if name not in there:
                        continue
                    truths = answers(one, scene, text, method)
                    told.setdefault(f"{kind}_nothing", []).append(not truths)
                    told.setdefault(f"{kind}_right", []).append(name in truths)
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


def classes_of(asked: FinishedRun, scene: str) -> set[str]:
    """Classes that a scene has; none where it has no labels, or is not there."""
    folder = asked.artifacts.workspace.scene(scene)
    labels = open_scene(folder).labels if folder.is_dir() else None
    if labels is None:
        return set()
    return {
        name
        for label, name in enumerate(asked.class_names)
        if int((labels == label).sum()) >= POINTS
    }


def answers(asked: FinishedRun, scene: str, text: str, method: str) -> set[str | None]:
    """True classes of the places that answer."""
    found = asked.querier.query_scene(text, scene, top_k=100, method=method)
    return {answer.truth for answer in found.answers}
