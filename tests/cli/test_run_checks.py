"""What would only fail late is refused before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.cli.run_checks import check_run
from pcdistill.errors import ConfigError, MissingExtraError, PcdistillError
from pcdistill.networks import build_student, mink_unet, save_checkpoint
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.scenes import Scene, write_ply, write_scene
from tests.end_to_end.conftest import pcdistill


def made(tmp_path: Path, **sections: dict[str, Any]) -> RunContext:
    sections = {**sections, "run": {"workspace": str(tmp_path / "run"), **sections.get("run", {})}}
    return RunContext(config_from_dict(sections, "test"))


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"report": {"queries": ["couch", "☃"]}}, r"report\.queries: the text '☃' has no"),
        ({"report": {"heat_maps": ["☃"]}}, r"report\.heat_maps: the text '☃' has no word"),
        (
            {"report": {"expected_classes": ["sofa", "refrigerater"]}},
            r"report\.expected_classes\[1\] is 'refrigerater', .* 'scannet20'; did you mean "
            r"'refrigerator'",
        ),
        (
            {"report": {"queries": ["couch"], "expected_classes": ["sofa", "bed"]}},
            r"report\.expected_classes has 2 classes for the 1 questions",
        ),
        (
            {"report": {"scenes": ["home-train-0"]}},
            r"report\.scenes has 'home-train-0', which is not among the 4 scenes",
        ),
        (
            {"distill": {"students": ["superpoint", "point"]}},
            r"'point', which learns from features per point, but "
            r"fuse\.store_point_features is false",
        ),
        (
            {"distill": {"precision": "float16", "device": "cpu"}},
            r"distill\.precision is float16, which needs a GPU, but .* on the cpu",
        ),
        (
            {"distill": {"validate_every": 2}, "ingest": {"homes": "test"}},
            r"distill\.validate_every is 2 but .* are test scenes, which no training may look at",
        ),
        (
            {"distill": {"answer": "best"}},
            r"distill\.answer is best but distill\.validate_every is 0",
        ),
        ({"run": {"label_set": "replica"}}, r"is 'replica' but generated homes are labelled with"),
        ({"ingest": {"validation": 0}}, r"ingest\.validation is 0 but .* need a home to measure"),
        (
            {"ingest": {"image_size": [48, 64]}, "lift": {"border": 24}},
            r"lift\.border is 24 pixels but frames have 48 x 64",
        ),
        ({"distill": {"architecture": "MinkUNet18"}}, "unknown student architecture 'MinkUNet18'"),
        ({"evaluate": {"protocol": "every points"}}, "unknown protocol 'every points'"),
        ({"run": {"text_encoder": "clip"}}, "unknown text encoder 'clip'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_run_that_is_bound_to_fail_is_refused_at_its_start(tmp_path, sections, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        check_run(made(tmp_path, **sections))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_command_checks_before_it_writes(tmp_path):
    ran = pcdistill(
        "demo", "--workspace", tmp_path / "run", "--set", "report.expected_classes=[zebra]"
    )
    assert ran.returncode == 2
    assert (
        "error: report.expected_classes[0] is 'zebra', which is no class of label set" in ran.stderr
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["label_set", "vocabulary"])
def test_words_that_the_text_encoder_does_not_know_are_refused(tmp_path, setting):
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"name": "scannet20", "categories": ["wall", "☃"]}))
    with pytest.raises(ConfigError, match="☃"):
        check_run(made(tmp_path, run={setting: str(file)}))


def no_engine() -> None:
    raise MissingExtraError("the engine is not installed")


@pytest.mark.parametrize("given", [False, True])
def test_an_engine_that_is_not_installed_is_refused_for_every_student(tmp_path, monkeypatch, given):
    monkeypatch.setattr(mink_unet, "import_minkowski", no_engine)
    distill: dict[str, Any] = {"engine": "minkowski", "width": 0.125}
    if given:
        distill["pretrained"] = str(tmp_path / "given.safetensors")
        network = build_student("MinkUNet14A", 3, 64, width=0.125)
        save_checkpoint(distill["pretrained"], network, {})
    with pytest.raises(MissingExtraError):
        check_run(made(tmp_path, distill=distill))


def test_clouds_without_frames_need_a_student_and_no_teacher(tmp_path):
    write_ply(tmp_path / "cloud.ply", points=torch.rand(50, 3))
    ingest = {"source": "scan", "path": str(tmp_path / "cloud.ply")}
    with pytest.raises(ConfigError, match=r"clouds without frames.*set run\.teachers: \[\]"):
        check_run(made(tmp_path, ingest=ingest))


def test_scans_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(PcdistillError, match="no such folder"):
        check_run(made(tmp_path, ingest={"source": "scan", "path": str(tmp_path / "none")}))
    with pytest.raises(PcdistillError, match=r"ingest\.path is not set"):
        check_run(made(tmp_path, ingest={"source": "scan"}))


def test_what_fits_is_not_refused(tmp_path):
    check_run(made(tmp_path))
    answers = {"queries": ["couch", "a place"], "expected_classes": ["sofa", ""]}
    check_run(made(tmp_path, report={**answers, "scenes": ["home-validation-3"]}))
    students = {"students": ["point"], "width": 0.125}
    check_run(made(tmp_path, distill=students, fuse={"store_point_features": True}))
    for name in ("one", "two"):
        write_scene(Scene(name, torch.rand(5, 3)), tmp_path / "scans" / name)
    scans = made(tmp_path, ingest={"source": "scan", "path": str(tmp_path / "scans")})
    check_run(scans)
    check_run(
        RunContext(replace(scans.config, report=replace(scans.config.report, scenes=("two",))))
    )
