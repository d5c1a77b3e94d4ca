"""Whatever a result depends on makes it stale: each field of label sets and vocabularies."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path

import pytest

from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.stages import STAGES
from tests.fixtures.runs import predictor

LABELS = json.loads((files("pcdistill.scenes") / "label_sets" / "nuscenes16.json").read_text())
WORDS = json.loads((files("pcdistill.scenes") / "vocabularies" / "indoor.json").read_text())
COMBINED = (
    *("average", "linear", "binary", "shuffled", "fused", "oracle"),
    *("fused+voxels", "fused+superpoints"),
)


def settings(tmp_path: Path, labels: dict, words: dict) -> dict[str, dict[str, str]]:
    """Stage -> unit -> what goes into its fingerprint beside its inputs', as text."""
    for name, content in (("labels", labels), ("words", words)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    sections = {
        "run": {
            "workspace": str(tmp_path),
            "label_set": str(tmp_path / "labels.json"),
            "vocabulary": str(tmp_path / "words.json"),
        }
    }
    run = RunContext(config_from_dict(sections, "test"))
    return {
        stage.name: {
            unit: json.dumps(dict(stage(run).settings(unit)), sort_keys=True, default=str)
            for unit in stage(run).units()
        }
        for stage in STAGES
    }


def changed(tmp_path: Path, labels: dict, words: dict) -> set[str]:
    """Stages of which some unit that both have depends on what is different."""
    before, after = settings(tmp_path, LABELS, WORDS), settings(tmp_path, labels, words)
    return {
        stage
        for stage, units in before.items()
        if any(after[stage].get(unit, text) != text for unit, text in units.items())
    }


def relabelled(change) -> dict:
    labels = copy.deepcopy(LABELS)
    change(labels)
    return labels


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: labels.update(ignore_label=254),
        lambda labels: labels["categories"][1].update(name="bike"),
        lambda labels: labels["categories"][0].update(color=[1, 2, 3]),
        lambda labels: labels["prompts"][0].update(category=labels["categories"][2]["name"]),
        lambda labels: labels["prompts"][0].update(name="fence"),
    ],
    ids=["ignore label", "category name", "palette", "category of a prompt", "prompt"],
)
def test_every_field_of_a_label_set_counts_for_what_is_measured(tmp_path, change):
    if "bike" in json.dumps(relabelled(change)["categories"]):

        def both(labels):
            old = labels["categories"][1]["name"]
            change(labels)
            for prompt in labels["prompts"]:
                if prompt["category"] == old:
                    prompt["category"] = "bike"

        labels = relabelled(both)
    else:
        labels = relabelled(change)
    assert "evaluate" in changed(tmp_path, labels, WORDS)


def test_another_vocabulary_counts_for_every_row_that_compares_teachers(tmp_path):
    words = copy.deepcopy(WORDS)
    words["categories"][0] = "bookcase"
    stages = changed(tmp_path, LABELS, words)
    assert {"score", "fuse", "evaluate", "report"} <= stages
    before = settings(tmp_path, LABELS, WORDS)["evaluate"]
    after = settings(tmp_path, LABELS, words)["evaluate"]
    different = {row for row in before if before[row] != after[row]}
    assert different == {*COMBINED, "capability"}
    run = RunContext(config_from_dict({}, "test"))
    assert set(COMBINED) < set(predictor(run).methods.names)


def test_what_is_the_same_makes_nothing_stale(tmp_path):
    assert changed(tmp_path, copy.deepcopy(LABELS), copy.deepcopy(WORDS)) == set()
