"""What the execute line names is taken as it is: folders, paths and seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pcdistill.cli import execute
from pcdistill.cli.run import load_run_config
from pcdistill.pipeline.config import RunConfig
from tests.end_to_end.conftest import pcdistill


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("ingest: {source: scan}\nrun: {workspace: runs/one}\n")
    return path


@pytest.mark.parametrize(
    "name", ["flat #2", "2024-05-17", "no", "[old] flat", "@home", "~", "null", "a: b", "1e3", "{}"]
)
def test_a_path_is_a_path_whatever_it_means_in_yaml(config, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    loaded = load_run_config(config, Path(name), Path(name), ())
    assert loaded.ingest.path == str(tmp_path / name)
    assert loaded.run.workspace == name


def test_a_workspace_is_the_folder_that_is_named(tmp_path, monkeypatch):
    """It says of itself where it was made, which counts for nothing from another folder."""
    folder = tmp_path / "moved" / "demo"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"run": {"workspace": "runs/demo"}}))
    monkeypatch.chdir(tmp_path)
    assert load_run_config(folder, None, None, ()).run.workspace == str(folder)
    assert load_run_config(Path("moved/demo"), None, None, ()).run.workspace == "moved/demo"
    assert load_run_config(folder, None, Path("new"), ()).run.workspace == "new"
    told = load_run_config(folder, None, None, ("run.workspace=told",))
    assert told.run.workspace == "told"


@pytest.mark.parametrize("key", ["label_set", "vocabulary"])
def test_a_file_beside_the_config_is_found_from_anywhere(config, tmp_path, monkeypatch, key):
    (tmp_path / "words.json").write_text(json.dumps({}))
    config.write_text(f"run: {{{key}: words.json}}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load_run_config(config, None, None, ())
    assert getattr(loaded.run, key) == str(tmp_path / "words.json")
    assert load_run_config(config, None, None, (f"run.{key}=indoor",)).run.title == "pcdistill run"


def test_names_that_come_with_the_package_stay_names(config, tmp_path, monkeypatch):
    (tmp_path / "scannet20").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_run_config(config, None, None, ()).run.label_set == "scannet20"


@pytest.mark.parametrize(
    ("words", "seed"), [((), 0), (("--seed", "3"), 3), (("--set", "run.seed=5"), 5)]
)
def test_the_demo_heeds_its_seed_wherever_it_is_said(tmp_path, monkeypatch, words, seed):
    asked: list[RunConfig] = []

    def listening(config, *_, **__):
        asked.append(config)
        return 0

    monkeypatch.setattr(execute, "execute_run", listening)
    assert pcdistill("demo", "--workspace", tmp_path / "w", *words).returncode == 0
    assert asked[0].run.seed == seed
    assert asked[0].run.workspace == str(tmp_path / "w")
