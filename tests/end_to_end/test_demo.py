"""The demo as a newcomer meets it: what it prints, leaves, answers, and does the second time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill import open_run
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.context import RunContext
from pcdistill.reporting.run_description import OF_DEVELOPMENT, OF_HOMES
from pcdistill.scenes import load_label_set, read_ply
from tests.end_to_end.conftest import TINY, pcdistill
from tests.fixtures.runs import finished_run

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
ROWS = [
    "teacher:demo-dense",
    "teacher:demo-masks",
    "average",
    "linear",
    "binary",
    "shuffled",
    "fused",
    "oracle",
    "fused+voxels",
    "fused+superpoints",
    "student:point",
    "student:superpoint",
    "student:superpoint+ensemble",
]


def test_it_ends_with_a_table_and_the_next_thing_to_try(tiny_run):
    printed = (tiny_run / "stdout.txt").read_text()
    for row in ROWS:
        assert row in printed
    assert "report/index.html" in printed
    assert "pcdistill query" in printed
    assert re.search(
        r"student:\S+ stops while it still learns; train it longer: "
        r"pcdistill demo --workspace \S+ --set distill.epochs=\d+ ",
        printed,
    )
    assert re.search(
        r"student:\S+ is away from fused\+voxels \(.+ fused \(.+ and fused\+sup", printed
    )
    assert "one of the homes alone gives no interval" in printed
    number = r"-?\d\.\d\d"
    told = rf"is {number} \[{number}, {number}\] over \d+ taught classes"
    assert re.search(rf"rank correlation \(Spearman\) .+ {told}", printed)
    assert "0 failed" in printed


def test_the_report_names_its_protocol_and_rows(tiny_run):
    report = json.loads((tiny_run / "report" / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ROWS
    assert report["seed"] == 0
    assert "scannet20" in report["protocol"]
    for row in report["rows"]:
        assert 0 <= row["miou"] <= 100
        assert 0 <= row["macc"] <= 100
        assert len(row["per_class"]) == 20
        values = [value for value in row["per_class"].values() if value is not None]
        # the report rounds to a tenth of a percent
        assert row["miou"] == pytest.approx(sum(values) / len(values), abs=0.1)


def test_the_page_needs_nothing_from_elsewhere(tiny_run):
    page = (tiny_run / "report" / "index.html").read_text()
    assert "<html" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert page.count("data:image/png;base64,") >= 8
    for words in ("couch", "fridge", "a place to sleep"):
        assert words in page


def test_the_page_says_what_homes_do_not_show(tiny_run):
    stored = json.loads((tiny_run / "report" / "report.json").read_text())
    assert stored["notes"] == [*OF_HOMES, OF_DEVELOPMENT]
    page = (tiny_run / "report" / "index.html").read_text()
    assert "no accuracy on real scans" in " ".join(page.split())
    assert "These are development homes" in page


def test_a_second_call_does_nothing_and_says_so(tiny_run):
    again = pcdistill("demo", "--workspace", tiny_run, "--jobs", 2, "--set", *TINY)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def test_status_counts_everything_as_done(tiny_run):
    shown = pcdistill("status", tiny_run)
    assert shown.returncode == 0
    for stage, units in (("ingest", 3), ("lift", 6), ("synthesize", 20), ("distill", 3)):
        assert re.search(rf"{stage}\s*│\s*{units}\s*│\s*-\s*│\s*-\s*│\s*-", shown.stdout), stage


def test_a_question_gives_places_a_cloud_and_a_picture(tiny_run):
    answered = pcdistill("query", tiny_run, "a place to sleep", "--top-k", 3)
    assert answered.returncode == 0, answered.stderr
    assert 1 <= answered.stdout.count("home-validation-0 ") <= 3
    assert re.search(r"home-validation-0\s+bed\s", answered.stdout)
    folder = tiny_run / "queries" / "a-place-to-sleep"
    cloud = read_ply(folder / "home-validation-0.ply")
    assert len(cloud.points) > 1000
    fits = cloud.scalars["relevancy"]
    assert 0 <= float(fits.min()) < float(fits.max()) <= 1
    with Image.open(folder / "home-validation-0.png") as picture:
        assert min(picture.size) >= 300


@pytest.mark.parametrize(
    ("question", "expected"),
    [("a place to sleep", "bed"), ("couch", "sofa"), ("fridge", "refrigerator")],
)
def test_the_first_answers_are_truly_what_was_asked_for(tiny_run, question, expected):
    """By the true labels of a home that nothing was trained on; no word is a class name."""
    config = load_config(tiny_run / "config.yaml")
    answers = finished_run(RunContext(config)).querier.query(question, draw="none").answers
    assert answers[0].truth == expected
    assert answers[0].looks_like == expected


def test_places_of_one_answer_are_apart(tiny_run):
    """Not five pieces of one door: boxes of answers in one home hardly overlap."""
    answers = open_run(tiny_run).query("door").answers
    assert answers
    boxes = [(np.array(a.position), np.array(a.size)) for a in answers if a.looks_like == "door"]
    for i, (center, size) in enumerate(boxes):
        for other, extent in boxes[i + 1 :]:
            common = np.minimum(center + size / 2, other + extent / 2)
            common -= np.maximum(center - size / 2, other - extent / 2)
            assert np.prod(np.clip(common, 0, None)) < 0.5 * min(np.prod(size), np.prod(extent))


def test_where_nothing_looks_like_it_the_command_says_so(tiny_run):
    answered = pcdistill("query", tiny_run, "elephant", "--draw", "none")
    assert answered.returncode == 0
    assert re.search(
        r"nothing here looks like that: the nearest place has similarity 0\.\d\d with 'elephant', "
        r"more than 0\.\d\d is asked for",
        answered.stdout,
    )
    assert not (tiny_run / "queries" / "elephant").exists()


def test_the_best_measured_row_answers_and_labels(tiny_run, tmp_path):
    report = json.loads((tiny_run / "report" / "report.json").read_text())
    rows = {row["name"]: row["miou"] for row in report["rows"]}
    best = max(rows.keys() - {"binary", "shuffled", "oracle"}, key=rows.__getitem__)
    answered = pcdistill("query", tiny_run, "chair", "--draw", "none")
    assert f"answered by {best}" in answered.stdout
    assert pcdistill("export", tiny_run, "--to", tmp_path / "a").returncode == 0
    assert pcdistill("export", tiny_run, "--to", tmp_path / "b", "--method", best).returncode == 0
    one, other = (read_ply(tmp_path / name / "home-validation-0.ply") for name in "ab")
    assert torch.equal(one.scalars["label"], other.scalars["label"])


def test_stored_features_answer_like_those_made_anew(tiny_run, tmp_path):
    """What stage evaluate keeps for questions is what the row says; a changed unit is noticed."""
    config = load_config(tiny_run / "config.yaml")
    stored = finished_run(RunContext(config)).querier.query("sofa", draw="none", method="fused")
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    moved = replace(config, run=replace(config.run, workspace=str(copy)))
    shutil.rmtree(copy / "evaluation" / "fused")
    anew = finished_run(RunContext(moved)).querier.query("sofa", draw="none", method="fused")
    assert [a.points for a in anew.answers] == [a.points for a in stored.answers]
    half = 2.0**-11  # relative step of the half precision that features are stored in
    for one, other in zip(anew.answers, stored.answers, strict=True):
        assert one.similarity == pytest.approx(other.similarity, abs=4 * half)


def test_another_row_can_answer_and_an_unknown_one_is_named(tiny_run):
    assert pcdistill("query", tiny_run, "chair", "--method", "fused").returncode == 0
    for command in (("query", tiny_run, "chair"), ("export", tiny_run)):
        refused = pcdistill(*command, "--method", "fuse")
        assert refused.returncode == 2
        assert "unknown method 'fuse'; did you mean 'fused'?" in refused.stderr


def test_an_unknown_scene_in_a_question_is_named(tiny_run):
    answered = pcdistill("query", tiny_run, "chair", "--scene", "kitchen")
    assert answered.returncode == 2
    assert "unknown scene 'kitchen'; expected one of: home-train-0" in answered.stderr


def test_the_labels_can_be_taken_away(tiny_run, tmp_path):
    exported = pcdistill("export", tiny_run, "--to", tmp_path / "out")
    assert exported.returncode == 0, exported.stderr
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == [
        "classes.txt",
        *(f"home-{s}.ply" for s in ("train-0", "train-1", "validation-0")),
    ]
    cloud = read_ply(tmp_path / "out" / "home-validation-0.ply")
    labels, none = cloud.scalars["label"], load_label_set("scannet20").ignore_label
    assert labels.dtype == torch.int64
    assert bool(((labels >= 0) & ((labels < 20) | (labels == none))).all())
    assert 0 < int((labels == none).sum()) < 0.2 * len(labels)  # nobody saw these
    names = (tmp_path / "out" / "classes.txt").read_text().splitlines()
    assert names[0] == "0 wall"
    assert names[-1] == f"{none} no answer"


def test_evaluate_prints_the_table(tiny_run):
    measured = pcdistill("evaluate", tiny_run)
    assert measured.returncode == 0
    assert "student:superpoint+ensemble" in measured.stdout


@pytest.mark.slow  # tests/faults kills a smaller one in every stage
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    workspace = tmp_path / "run"
    command = [sys.executable, "-m", "pcdistill.cli", "run", str(DEMO)]
    command += ["--workspace", str(workspace), "--jobs", "2", "--set", *TINY, "ingest.train=1"]
    command += ["--only", "ingest", "partition", "lift"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lifted = workspace / "manifest" / "lift"
    until = time.monotonic() + 300
    while not (lifted.is_dir() and any(lifted.glob("*.json"))) and time.monotonic() < until:
        assert first.poll() is None, "ended before it could be killed"
        time.sleep(0.05)
    first.kill()
    first.wait()
    done = {path: path.stat().st_mtime_ns for path in workspace.glob("manifest/*/*.json")}
    assert done
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert second.returncode == 0, second.stdout + second.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(list(lifted.glob("*.json"))) == 4  # two teachers, two homes
    assert not list(workspace.rglob("*.part"))


@pytest.mark.slow
def test_a_given_student_stands_beside_the_teachers(tiny_run, tmp_path):
    """The homes of the copy keep their frames, teachers and fused rows; nothing is trained."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    given = f"distill.pretrained={tiny_run}:superpoint"
    ran = pcdistill("demo", "--workspace", copy, "--set", *TINY, given)
    assert ran.returncode == 0, ran.stderr
    report = json.loads((copy / "report" / "report.json").read_text())
    rows = {row["name"]: row["miou"] for row in report["rows"]}
    assert list(rows) == [*ROWS[:10], "student:pretrained"]
    before = json.loads((tiny_run / "report" / "report.json").read_text())
    known = {row["name"]: row["miou"] for row in before["rows"]}
    # the same arithmetic on the same numbers
    assert rows["student:pretrained"] == pytest.approx(known["student:superpoint"], abs=1e-6)
    assert rows["fused"] == known["fused"]


def test_a_question_that_nothing_answers_is_no_traceback(tiny_run, tmp_path):
    """Nothing looks like it, which holds where the class that was expected is not there."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    asked = ("report.queries=[elephant]", "report.expected_classes=['']")
    ran = pcdistill("demo", "--workspace", copy, "--set", *TINY, *asked)
    assert ran.returncode == 0, ran.stderr
    report = json.loads((copy / "report" / "report.json").read_text())
    assert {query["looks_like"] for query in report["queries"]} == {"nothing looks like that"}
    assert {query["holds"] for query in report["queries"]} == {None}


def test_a_damaged_artefact_is_made_anew(tiny_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    damaged = copy / "superpoints" / "home-validation-0.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = pcdistill("demo", "--workspace", copy, "--set", *TINY)
    assert again.returncode == 0, again.stderr
    assert damaged.stat().st_size > 100


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "run.teachers=[demo-dense, demo-mask]",
            "unknown teacher 'demo-mask'; did you mean 'demo-masks'?",
        ),
        ("distill.epoch=3", "unknown key 'distill.epoch'; did you mean 'epochs'?"),
        ("run.text_encoder=clip", "unknown text encoder 'clip'"),
        ("run.label_set=scanet20", "did you mean 'scannet20'?"),
        ("distill.architecture=MinkUNet19", "MinkUNet"),
        ("evaluate.protocol=openscenes", "unknown protocol 'openscenes'"),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence(tmp_path, setting, sentence):
    refused = pcdistill("demo", "--workspace", tmp_path / "run", "--set", *TINY, setting)
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "Traceback" not in refused.stderr
