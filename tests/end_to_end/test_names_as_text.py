"""Brackets, braces and colons in names, prompts, questions and paths are text wherever printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pcdistill.networks import build_student, save_checkpoint
from pcdistill.scenes import write_ply
from tests.end_to_end.conftest import pcdistill

CLASSES = ["[red]bed", "sofa {0}", "[/] chair", ":bed: lamp"]
QUESTION = "[bold]bed[/bold] {of} :bed: [/]"


@pytest.mark.parametrize("name", ["[old] flat", "[/red] {flat}", ":bed: %s [link=x]"])
def test_a_run_with_brackets_and_braces_everywhere(tmp_path, name):
    scan, workspace = tmp_path / name / "cloud.ply", tmp_path / f"{name} run"
    scan.parent.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    write_ply(scan, points=4 * torch.rand(400, 3, generator=generator))
    torch.manual_seed(0)
    student = tmp_path / f"{name}.safetensors"
    known = {"config": {"voxel_size": 0.5, "input": "constant"}}
    save_checkpoint(student, build_student("MinkUNet14A", 3, 64, width=0.125), known)
    labels = tmp_path / f"{name}.json"
    labels.write_text(json.dumps({"categories": CLASSES}))
    sections = {
        "run": {
            "title": f"run of {name}",
            "teachers": [],
            "label_set": str(labels),
            "prompt": "a {} in a {room} [/b]",
        },
        "ingest": {"source": "scan"},
        "distill": {"pretrained": str(student)},
        "report": {"queries": [QUESTION], "heat_maps": [QUESTION]},
    }
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(sections))
    ran = pcdistill("run", config, "--scan", scan.parent, "--workspace", workspace)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"run of {name}: pcdistill" in ran.stdout
    assert f"workspace {workspace}" in ran.stdout
    scene = next(iter(json.loads((workspace / "scans.json").read_text())["validation"]))
    assert f"  {scene}: cloud of 400 points" in ran.stdout
    assert "prompt 'a {} in a {room} [/b]'" in ran.stdout
    assert f"report: {workspace / 'report' / 'index.html'}" in ran.stdout
    shown = pcdistill("status", workspace)
    assert shown.returncode == 0
    assert str(workspace) in "".join(shown.stdout.split("\n")[:3])
    asked = pcdistill("query", workspace, QUESTION, "--scene", scene)
    assert asked.returncode == 0, asked.stderr
    if "nothing here looks like that" in asked.stdout:
        assert f"'{QUESTION}'" in asked.stdout
    else:
        assert scene in asked.stdout
        assert any(category in asked.stdout for category in CLASSES)
    assert str(workspace / "queries") in asked.stdout
    given = pcdistill("export", workspace, "--to", tmp_path / f"{name} out")
    assert given.returncode == 0, given.stderr
    assert str(tmp_path / f"{name} out" / "classes.txt") in given.stdout
    told = (tmp_path / f"{name} out" / "classes.txt").read_text()
    assert [line.partition(" ")[2] for line in told.splitlines()][: len(CLASSES)] == CLASSES
    found = pcdistill("doctor", scan, "--out", tmp_path / f"{name} doctor")
    assert found.returncode in (0, 1), found.stderr
    assert str(Path(f"{name} doctor") / "doctor.json") in found.stdout


@pytest.mark.parametrize("words", [["run", "[old] {x}.yaml"], ["status", ":bed: [/]"]])
def test_what_is_refused_is_named_as_it_was_typed(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    ran = pcdistill(*words)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: {words[1]}")
