"""The few names of `import pcdistill`: a finished run and its student, as a user has them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pcdistill
from pcdistill.errors import ConfigError, SceneError
from pcdistill.pipeline import RunContext, load_config
from tests.fixtures.runs import finished_run

REPOSITORY = Path(__file__).resolve().parents[2]
SCENE = "home-validation-0"


def test_importing_the_package_loads_nothing_heavy():
    probe = "import sys, pcdistill; print(sorted({'torch', 'numba', 'numpy'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in pcdistill.__all__ if name != "__version__"])
def test_every_name_of_the_face_is_there(name):
    assert callable(getattr(pcdistill, name))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'pcdistill' has no attribute 'open_runs'"):
        _ = pcdistill.open_runs


def test_a_run_answers_as_on_the_command_line(tiny_run):
    run = pcdistill.open_run(tiny_run)
    found = run.query("couch", top_k=2, method="fused")
    context = RunContext(load_config(tiny_run / "config.yaml"))
    known = finished_run(context).querier.query("couch", (), 2, "fused", "none")
    assert found == known
    assert found.method == "fused"


def test_a_run_gives_labels_features_and_results(tiny_run):
    run = pcdistill.open_run(tiny_run)
    assert SCENE in run.scenes
    features, seen = run.features(SCENE, "fused")
    texts = run.encode([f"a {name}" for name in run.class_names])
    labels = run.labels(SCENE, "fused")
    assert torch.equal(labels[seen], (features[seen] @ texts.T).argmax(dim=1))
    assert bool((labels[~seen] < 0).all())
    assert run.result("fused")["miou"] > 0
    assert run.best_method in run.methods


def test_a_run_exports_what_it_says(tiny_run, tmp_path):
    files = pcdistill.open_run(tiny_run).export(tmp_path, "fused")
    assert tmp_path / f"{SCENE}.ply" in files


@pytest.mark.parametrize("call", ["labels", "features"])
def test_an_unknown_scene_or_method_is_named(tiny_run, call):
    run = pcdistill.open_run(tiny_run)
    with pytest.raises(ConfigError, match=f"unknown scene 'hall'; expected one of: .*{SCENE}"):
        getattr(run, call)("hall")
    with pytest.raises(ConfigError, match="unknown method 'fuse'; did you mean 'fused'"):
        getattr(run, call)(SCENE, "fuse")


def test_no_run_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"found no config\.yaml of a run there"):
        pcdistill.open_run(tmp_path)


def test_a_student_labels_points_as_its_run_does(tiny_run):
    run = pcdistill.open_run(tiny_run)
    student = pcdistill.load_student(f"{tiny_run}:superpoint")
    scene = pcdistill.open_scene(tiny_run / "scenes" / SCENE)
    labels = student.label(scene.points, scene.colors, run.class_names, scene.normals)
    assert torch.equal(labels, run.labels(SCENE, "student:superpoint"))


def test_a_student_estimates_normals_and_averages_votes(tiny_run):
    student = pcdistill.load_student(tiny_run)
    scene = pcdistill.open_scene(tiny_run / "scenes" / SCENE)
    once = student.features(scene.points, scene.colors)
    assert once.shape == (len(scene.points), 64)
    assert not torch.equal(once, student.features(scene.points, scene.colors, votes=2))


def test_what_a_student_cannot_do_is_named(tiny_run, tmp_path):
    student = pcdistill.load_student(tiny_run)
    points = torch.rand(50, 3)
    with pytest.raises(SceneError, match="has no colours but the student sees them"):
        student.features(points)
    with pytest.raises(ConfigError, match="there are no categories"):
        student.label(points, torch.zeros(50, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="colors"):
        student.features(points, torch.zeros(40, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="does not exist"):
        pcdistill.load_student(tmp_path / "absent")


def test_the_quickstart_runs(tiny_run):
    command = [sys.executable, REPOSITORY / "examples" / "quickstart.py", tiny_run]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "mIoU" in ran.stdout
    assert "% of the points" in ran.stdout


def test_the_cells_of_the_notebook_run(tiny_run, capsys):
    values = json.loads((REPOSITORY / "examples" / "quickstart.ipynb").read_text())
    cells = ["".join(c["source"]) for c in values["cells"] if c["cell_type"] == "code"]
    (place,) = (number for number, cell in enumerate(cells) if cell.startswith("workspace = "))
    cells[place] = f"workspace = Path({str(tiny_run)!r})"
    namespace: dict[str, object] = {}
    for cell in cells:
        exec(cell, namespace)
    shown = capsys.readouterr().out
    assert "mIoU" in shown
    assert "% of the points" in shown
