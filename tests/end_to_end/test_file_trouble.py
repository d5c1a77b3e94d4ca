"""What cannot be read or written is said to be so in one sentence, and never called missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pcdistill.networks import build_student, save_checkpoint
from pcdistill.scenes import Scene, write_ply, write_scene
from tests.end_to_end.conftest import TINY, pcdistill
from tests.file_modes import modes_that_hold

WRONG = ("missing", "no such", "does not exist", "damaged", "not readable json", "not valid")
REFUSALS = ("cannot be read", "cannot be written", "cannot be made", "can be written there")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody may read, write or enter it, root neither."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with modes_that_hold():
            yield
    finally:
        path.chmod(mode)


def refused(*arguments: object) -> str:
    """What a command says that ends because of a file."""
    ran = pcdistill(*arguments)
    said = ran.stdout + ran.stderr
    assert ran.returncode in (1, 2), said
    assert "Traceback" not in said
    sentences = [
        line for line in said.splitlines() if line.startswith(("error: ", "FAILED", "WARNING"))
    ]
    assert sentences, said
    assert any(refusal in sentences[0] for refusal in REFUSALS), said
    assert not [word for word in WRONG if word in " ".join(sentences).lower()], said
    return said


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory) -> Path:
    workspace = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(tiny_run, workspace)
    return workspace


SCENE = "scenes/home-validation-0"
ARTEFACTS = [
    ("status", "config.yaml"),
    ("status", "manifest"),
    ("status", "manifest/lift"),
    ("status", "manifest/ingest/home-validation-0.json"),
    ("status", "."),
    ("query", "config.yaml"),
    ("query", "."),
    ("query", SCENE),
    ("query", f"{SCENE}/scene.json"),
    ("query", f"{SCENE}/points.safetensors"),
    ("query", "scenes"),
    ("query", "superpoints/home-validation-0.safetensors"),
    ("query", "evaluation"),
    ("query", "evaluation/fused/result.json"),
    ("export", "superpoints"),
    ("export", f"{SCENE}/scene.json"),
    ("export", "students/superpoint/checkpoint.safetensors"),
    ("export", "students/superpoint"),
    ("export", "features"),
    ("export", "capability/demo-dense.json"),
    ("evaluate", "scenes"),
    ("evaluate", "manifest"),
    ("evaluate", "running"),
]


@pytest.mark.parametrize(("command", "artefact"), ARTEFACTS)
def test_an_artefact_that_cannot_be_read_is_not_called_missing(finished, command, artefact):
    words: dict[str, list[object]] = {
        "status": ["status", finished],
        "query": ["query", finished, "couch", "--method", "fused+superpoints", "--draw", "none"],
        "export": ["export", finished, "--method", "student:superpoint"],
        "evaluate": ["evaluate", finished, "--redo"],
    }
    given = words[command]
    if artefact.startswith(("features", "capability")):
        given = ["export", finished, "--method", "fused"]
    if artefact.startswith("evaluation/fused"):
        given = ["query", finished, "couch", "--draw", "none"]
    if artefact.startswith("superpoints"):  # which are not asked for where a row was measured
        shutil.rmtree(finished / "evaluation" / "fused+superpoints", ignore_errors=True)
        given[-1:] = ["fused+superpoints"] if command == "export" else given[-1:]
    with locked(finished / artefact):
        said = refused(*given)
    assert Path(artefact).name in said or artefact == "."


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("ingest: {train: 1, validation: 1}\n")
    return path


@pytest.mark.parametrize("setting", ["run.label_set", "run.vocabulary"])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_words_that_cannot_be_read(config, tmp_path, setting, place):
    file = tmp_path / "mine" / "words.json"
    file.parent.mkdir()
    file.write_text('["bed", "sofa"]')
    with locked(file if place == "file" else file.parent):
        said = refused("run", config, "--workspace", tmp_path / "w", "--set", f"{setting}={file}")
    assert str(file) in said
    assert not (tmp_path / "w").exists()


def test_a_config_that_cannot_be_read(config):
    with locked(config):
        assert str(config) in refused("run", config)


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_given_student_that_cannot_be_read(config, tmp_path, place):
    file = tmp_path / "mine" / "student.safetensors"
    file.parent.mkdir()
    save_checkpoint(file, build_student("MinkUNet14A", 3, 64, width=0.125), {})
    given = ("--workspace", tmp_path / "w", "--set", f"distill.pretrained={file}")
    with locked(file if place == "file" else file.parent):
        assert str(file) in refused("run", config, *given)


@pytest.mark.parametrize("key", ["train_list", "validation_list"])
def test_a_list_of_scenes_that_cannot_be_read(tmp_path, key):
    write_scene(Scene("one", torch.rand(5, 3)), tmp_path / "scans" / "one")
    config, names = tmp_path / "run.yaml", tmp_path / "names.txt"
    names.write_text("one\n")
    config.write_text(f"ingest: {{source: scan, {key}: {names}}}\n")
    with locked(names):
        said = refused("run", config, "--scan", tmp_path / "scans", "--workspace", tmp_path / "w")
    assert str(names) in said


@pytest.mark.parametrize("place", ["cloud.ply", "."])
def test_a_scan_that_cannot_be_read(tmp_path, place):
    config, scan = tmp_path / "run.yaml", tmp_path / "scan"
    student = tmp_path / "student.safetensors"
    save_checkpoint(student, build_student("MinkUNet14A", 3, 64, width=0.125), {})
    config.write_text(
        f"run: {{teachers: []}}\ningest: {{source: scan}}\ndistill: {{pretrained: {student}}}\n"
    )
    scan.mkdir()
    write_ply(scan / "cloud.ply", points=torch.rand(50, 3))
    given = ("--scan", scan, "--workspace", tmp_path / "w", "--only", "ingest")
    with locked(scan / place):
        assert str(scan) in refused("run", config, *given)


@contextmanager
def untouched(root: Path) -> Iterator[None]:
    """Nothing comes or goes below a folder."""
    before = sorted(root.rglob("*"))
    yield
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("obstacle", ["file", "below a file", "link to nothing", "closed folder"])
@pytest.mark.parametrize("command", ["run", "export", "doctor"])
def test_a_place_that_no_folder_can_be_made_at(
    finished, config, tmp_path, monkeypatch, command, obstacle
):
    root = tmp_path / "places"
    root.mkdir()
    (root / "file").write_text("kept")
    (root / "link").symlink_to(root / "nothing")
    (root / "closed").mkdir()
    write_ply(tmp_path / "cloud.ply", points=torch.rand(50, 3))
    monkeypatch.chdir(root)
    target = {
        "file": root / "file",
        "below a file": root / "file" / "run",
        "link to nothing": root / "link",
        "closed folder": root / "closed" / "run",
    }[obstacle]
    words = {
        "run": ["run", config, "--workspace", target],
        "export": ["export", finished, "--method", "average", "--to", target],
        "doctor": ["doctor", tmp_path / "cloud.ply", "--out", target],
    }[command]
    with untouched(root), locked(root / "closed"):
        ran = pcdistill(*words)
    option = {"run": "--workspace", "export": "--to", "doctor": "--out"}[command]
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: {option}: ")
    assert ran.stderr.count("\n") == 1
    assert str(target) in ran.stderr
    assert (root / "file").read_text() == "kept"


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_workspace_that_is_a_file_is_none(config, tmp_path, command):
    (tmp_path / "file").write_text("kept")
    ran = pcdistill(command, config, "--workspace", tmp_path / "file")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "is a file, expected a folder" in ran.stderr


def test_a_workspace_that_cannot_be_written_answers_and_shows_its_status(finished):
    mode = finished.stat().st_mode
    for folder in ("queries", "export"):
        shutil.rmtree(finished / folder, ignore_errors=True)
    finished.chmod(0o555)
    try:
        with modes_that_hold():
            ran = pcdistill("query", finished, "couch")
            assert ran.returncode == 0, ran.stderr
            assert "answered by" in ran.stdout
            assert not (finished / "queries").exists()
            assert pcdistill("status", finished).returncode == 0
            said = refused("export", finished)
            assert "--to" in said
            said = refused("run", finished, "--set", *TINY)
            assert str(finished) in said
    finally:
        finished.chmod(mode)


def test_a_question_longer_than_a_file_name_is_answered(finished):
    ran = pcdistill("query", finished, "a couch " * 100)
    assert ran.returncode == 0, ran.stderr
    assert len(list((finished / "queries").rglob("*.png"))) >= 1


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 30)])
@pytest.mark.parametrize("option", ["--workspace", "--scan", "config", "trained", "label_set"])
def test_names_longer_than_the_file_system_takes(config, tmp_path, monkeypatch, option, name):
    monkeypatch.chdir(tmp_path)
    words: dict[str, list[object]] = {
        "--workspace": ["run", config, "--workspace", name],
        "--scan": ["run", config, "--set", "ingest.source=scan", "--scan", name],
        "config": ["run", name],
        "trained": ["run", config, "--set", f"distill.pretrained={name}"],
        "label_set": ["run", config, "--set", f"run.label_set={name}.json"],
    }
    ran = pcdistill(*words[option])
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr
    assert "File name too long" in ran.stderr
