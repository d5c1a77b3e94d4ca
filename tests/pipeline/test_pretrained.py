"""A student that was trained before is found, read with what it needs, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.networks import build_student, save_checkpoint
from pcdistill.pipeline.artifact_files import write_json
from pcdistill.pipeline.config import DistillConfig, GeneralConfig, RunConfig
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.pretrained import (
    checkpoint_copy_path,
    copy_checkpoint,
    load_pretrained,
    resolve_checkpoint,
)
from pcdistill.pipeline.workspace import UnitRecord, Workspace

PROVENANCE = {
    "text_space": "static-minilm-64",
    "prompt": "a {} indoors",
    "config": {"voxel_size": 0.1, "input": "color"},
}


def save(path: Path, channels: int = 7, dimensions: int = 64, layout="pcdistill", **known) -> Path:
    torch.manual_seed(0)
    network = build_student("MinkUNet14A", channels, dimensions, width=0.125)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, network, known, layout=layout)
    return path


@pytest.fixture
def finished(tmp_path) -> Path:
    """Workspace of a run whose students point and superpoint are finished, the last one is not."""
    root = tmp_path / "finished"
    students = ["point", "superpoint", "superpoint+ensemble"]
    for name in students[:2]:
        save(root / "students" / name / "checkpoint.safetensors", **PROVENANCE)
        record = UnitRecord("", "done", "", 0.0, {}, {})
        Workspace(root).write_record("distill", name, record)
    (root / "config.yaml").write_text(yaml.safe_dump({"distill": {"students": students[:2]}}))
    return root


def run_with(given: Path | str, tmp_path: Path, **distill) -> RunContext:
    return RunContext(
        RunConfig(
            run=GeneralConfig(workspace=str(tmp_path / "run"), teachers=()),
            distill=DistillConfig(pretrained=str(given), **distill),
        )
    )


def refused(run: RunContext) -> str:
    with pytest.raises((ConfigError, ArtifactError)) as caught:
        run.validate()
    message = str(caught.value)
    assert "\n" not in message
    assert message.count(". ") == 0
    return message


def test_a_workspace_stands_for_its_last_student_or_for_the_one_named(finished, tmp_path):
    own = Workspace(tmp_path / "run")
    students = finished / "students"
    last = resolve_checkpoint(str(finished), own).path
    assert last == students / "superpoint" / "checkpoint.safetensors"
    first = resolve_checkpoint(f"{finished}:point", own).path
    assert first == students / "point" / "checkpoint.safetensors"
    assert resolve_checkpoint(str(first), own).path == first


def test_what_it_needs_comes_with_it_and_not_from_the_config(finished, tmp_path):
    run = run_with(finished, tmp_path, voxel_size=0.02, input="constant")
    run.validate()
    assert run.pretrained.needs == (0.1, "color")
    assert run.words.prompts(["chair"]) == ["a chair indoors"]
    said = replace(run.config, run=replace(run.config.run, prompt="the {}"))
    assert RunContext(said).words.prompts(["chair"]) == ["the chair"]


@pytest.mark.parametrize("layout", ["pcdistill", "minkowski"])
def test_the_config_says_what_a_file_of_others_does_not(tmp_path, layout):
    file = save(tmp_path / "model_best.pth.tar", 4, layout=layout)
    run = run_with(file, tmp_path, voxel_size=0.04, input="geometry")
    run.validate()
    assert run.pretrained.needs == (0.04, "geometry")
    assert run.words.prompts(["chair"]) == ["a chair in a scene"]


def test_no_student_is_trained_beside_it(finished):
    config = DistillConfig(pretrained=str(finished))
    assert config.student_names == ("pretrained",)


def test_what_does_not_exist_is_named_with_what_can_be_given(tmp_path):
    message = refused(run_with(tmp_path / "none", tmp_path))
    assert f"{tmp_path / 'none'}: does not exist" in message
    assert "give the workspace of a finished run, WORKSPACE:STUDENT, or the file" in message
    assert "does not exist" in refused(run_with(f"{tmp_path / 'none'}:point", tmp_path))


def test_a_folder_that_is_no_workspace_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no config.yaml" in refused(run_with(tmp_path / "empty", tmp_path))


def test_a_student_that_is_not_finished_is_named_with_one_that_is(finished, tmp_path):
    students = ["point", "superpoint", "superpoint+ensemble"]
    (finished / "config.yaml").write_text(yaml.safe_dump({"distill": {"students": students}}))
    message = refused(run_with(finished, tmp_path))
    assert "its student 'superpoint+ensemble' is not finished" in message
    assert f"or take {finished}:superpoint" in message


def test_the_best_measured_student_is_taken_where_none_is_named(finished, tmp_path):
    """The last one configured is only taken where nothing was measured."""
    students = ["superpoint", "point"]
    (finished / "config.yaml").write_text(yaml.safe_dump({"distill": {"students": students}}))
    workspace = Workspace(finished)
    taken = resolve_checkpoint(str(finished), Workspace(tmp_path / "new"))
    assert taken.path == workspace.checkpoint("point")
    for name, miou in (("superpoint", 40.0), ("point", 30.0)):
        write_json(workspace.evaluation(f"student:{name}") / "result.json", {"miou": miou})
    taken = resolve_checkpoint(str(finished), Workspace(tmp_path / "new"))
    assert taken.path == workspace.checkpoint("superpoint")


def test_an_unknown_student_is_named_with_the_likely_one(finished, tmp_path):
    message = refused(run_with(f"{finished}:superpoints", tmp_path))
    assert "has no student 'superpoints'; did you mean 'superpoint'?" in message


def test_its_own_workspace_is_refused(finished, tmp_path):
    run = run_with(finished, tmp_path)
    own = replace(run.config, run=replace(run.config.run, workspace=str(finished)))
    assert "set run.workspace to another folder" in refused(RunContext(own))


def test_another_text_space_is_refused_naming_both(tmp_path):
    file = save(tmp_path / "s.safetensors", **{**PROVENANCE, "text_space": "clip-vit-l-14"})
    message = refused(run_with(file, tmp_path))
    assert "'clip-vit-l-14'" in message
    assert "'static-minilm-64'" in message
    assert "run.text_encoder" in message


def test_features_of_another_width_are_refused(tmp_path):
    file = save(tmp_path / "openscene.pth", 3, 768, layout="minkowski")
    message = refused(run_with(file, tmp_path))
    assert "gives 768 channels but run.text_encoder 'static' gives 64" in message


def test_an_input_of_other_channels_is_refused_with_the_one_that_fits(tmp_path):
    file = save(tmp_path / "s.pth", 3, layout="minkowski")
    message = refused(run_with(file, tmp_path, input="color"))
    assert "takes 3 channels of a voxel but distill.input 'color' gives 7" in message
    assert "set distill.input: constant" in message


@pytest.mark.parametrize("config", [{"voxel_size": "wide"}, {"voxel_size": 0}, {"input": "smell"}])
def test_impossible_provenance_is_refused(tmp_path, config):
    file = save(tmp_path / "s.safetensors", **{**PROVENANCE, "config": config})
    assert "its provenance says voxel_size" in refused(run_with(file, tmp_path))


def test_a_damaged_file_is_named(tmp_path):
    file = save(tmp_path / "s.safetensors", **PROVENANCE)
    file.write_bytes(file.read_bytes()[:-1000])
    assert "s.safetensors: the safetensors file is damaged" in refused(run_with(file, tmp_path))


def test_the_copy_stands_in_where_the_original_is_gone(finished, tmp_path):
    given, own = str(finished), Workspace(tmp_path / "run")
    source = resolve_checkpoint(given, own)
    student = load_pretrained(source, DistillConfig())
    copy_checkpoint(student, given, own, {"student": "pretrained"})
    finished.rename(tmp_path / "elsewhere")
    found = resolve_checkpoint(given, own)
    assert found == (checkpoint_copy_path(own), source.checksum)
    again = load_pretrained(found, DistillConfig())
    assert (again.needs, again.prompt) == (student.needs, student.prompt)
    with pytest.raises(ConfigError, match="does not exist"):
        resolve_checkpoint(str(tmp_path / "another"), own)


def test_teachers_are_needed_exactly_where_no_student_is_given(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("run: {teachers: []}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: run.teachers must be at least one name"):
        load_config(path)
    (tmp_path / "others").mkdir()  # beside the config, and not where the test is run
    config = load_config(path, ["distill.pretrained=others:point"])
    assert config.distill.pretrained == str(tmp_path / "others:point")
