"""Workspaces of newer versions are refused, those of older ones kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.config_loading import load_workspace_config
from pcdistill.pipeline.pretrained import resolve_checkpoint
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.workspace_format import FILE, FORMAT, require_known_format
from pcdistill.version import __version__
from tests.pipeline.test_runner import STAGES, times_worked


@pytest.fixture
def root(tmp_path):
    run_stages(config_of(tmp_path), STAGES)
    return tmp_path


def config_of(root: Path) -> RunConfig:
    return RunConfig(run=GeneralConfig(workspace=str(root)))


def test_a_run_notes_its_format(root):
    assert json.loads((root / FILE).read_text()) == {"format": FORMAT, "pcdistill": __version__}


def test_a_newer_workspace_is_refused_before_anything_is_read_or_written(root):
    (root / FILE).write_text(json.dumps({"format": FORMAT + 1, "pcdistill": "9.1"}))
    (root / "config.yaml").write_text("future: {}")
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*") if file.is_file()}
    refused = (
        rf"is a workspace of a newer pcdistill \(9.1, format {FORMAT + 1}\), this is .* --work"
    )
    with pytest.raises(ConfigError, match=refused):
        run_stages(config_of(root), STAGES)
    with pytest.raises(ConfigError, match=refused):
        load_workspace_config(root)
    with pytest.raises(ConfigError, match=refused):
        resolve_checkpoint(str(root), None)
    after = {file: file.stat().st_mtime_ns for file in root.rglob("*") if file.is_file()}
    assert after == before


def test_an_older_workspace_is_gone_on_with_and_noted(root):
    (root / FILE).unlink()
    assert run_stages(config_of(root), STAGES).skipped == 5
    assert times_worked(root, "a") == 1
    require_known_format(root)
    assert (root / FILE).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "1"}', '{"format": 0}', "[" * 9999])
def test_a_damaged_note_is_one_sentence(root, content):
    (root / FILE).write_text(content)
    with pytest.raises(ConfigError, match=r"workspace.json: is damaged, .* delete it") as error:
        run_stages(config_of(root), STAGES)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none_yet_is_no_trouble(tmp_path):
    require_known_format(tmp_path / "later")
    (tmp_path / "file").touch()
    require_known_format(tmp_path / "file")
