"""Which scans a run takes, learns from and measures; when a scan is read again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from pcdistill.artifacts import open_scan_sources, split_scenes
from pcdistill.artifacts.scan_sources import (
    save_scan_index,
)
from pcdistill.errors import ConfigError, SceneError
from pcdistill.pipeline.config import GeneralConfig, IngestConfig, RunConfig
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.status import UnitState, stage_states
from pcdistill.scenes import READERS, Scene, write_scene
from pcdistill.stages.ingest import IngestStage
from tests.end_to_end.conftest import pcdistill

NAMES = ("house_room0", "house_room1", "tower_room0")


@pytest.fixture
def scans(tmp_path):
    """A folder of three small scans."""
    for name in NAMES:
        write_scene(Scene(name, torch.rand(5, 3)), tmp_path / "scans" / name)
    return tmp_path / "scans"


def run_on(path, **settings) -> RunContext:
    return RunContext(
        replace(RunConfig(), ingest=IngestConfig(source="scan", path=str(path), **settings))
    )


def write_list(tmp_path, text: str) -> str:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return str(path)


def test_scans_without_labels_all_train_and_are_shown(scans):
    """Nothing is measured on them, so that nothing has to be kept apart."""
    run = run_on(scans)
    assert (
        split_scenes(run).training == split_scenes(run).validation == split_scenes(run).all == NAMES
    )


def test_one_list_leaves_the_others_to_the_other_side(scans, tmp_path):
    file = write_list(tmp_path, "tower_room0\n\n")
    measured = run_on(scans, validation_list=file)
    assert split_scenes(measured).validation == ("tower_room0",)
    assert split_scenes(measured).training == NAMES[:2]
    learned = run_on(scans, train_list=file)
    assert split_scenes(learned).training == ("tower_room0",)
    assert split_scenes(learned).validation == NAMES[:2]


def test_a_list_may_name_a_house_for_all_its_rooms(scans, tmp_path):
    run = run_on(scans, validation_list=write_list(tmp_path, "house\n"))
    assert split_scenes(run).validation == NAMES[:2]


def test_scans_in_no_list_are_left_alone(scans, tmp_path):
    file = write_list(tmp_path, "house_room1\n")
    run = run_on(scans, train_list=file, validation_list=file)
    assert split_scenes(run).all == ("house_room1",)


def test_a_listed_scan_that_is_not_there_fails_alone(scans, tmp_path):
    file = write_list(tmp_path, "tower_room0\ncave_room0\n")
    run = run_on(scans, validation_list=file)
    assert "cave_room0" in split_scenes(run).all
    with pytest.raises(SceneError, match=r"cave_room0: is in .*list\.txt but not among"):
        open_scan_sources(run).scan("cave_room0")
    config = tmp_path / "run.yaml"
    config.write_text(f"ingest: {{source: scan, path: '{scans}', validation_list: '{file}'}}\n")
    arguments = ["run", config, "--workspace", tmp_path / "run", "--only", "ingest", "--jobs", 1]
    ran = pcdistill(*arguments)
    assert ran.returncode == 1
    assert "FAILED ingest cave_room0: scene cave_room0: is in" in ran.stdout
    assert "3 done, 0 up to date, 1 failed" in ran.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cave_room0\n", "names 1 scenes, none of which is among the 3 scans"),
        ("# nothing\n", "names 0 scenes"),
    ],
)
def test_a_list_of_something_else_is_refused(scans, tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        _ = open_scan_sources(run_on(scans, train_list=write_list(tmp_path, text))).index


def test_a_list_that_is_missing_or_binary_is_refused(scans, tmp_path):
    with pytest.raises(ConfigError, match="train_list: .* does not exist"):
        _ = open_scan_sources(run_on(scans, train_list=str(tmp_path / "none.txt"))).index
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="train_list: .* cannot be read"):
        _ = open_scan_sources(run_on(scans, train_list=str(tmp_path / "list.txt"))).index


def test_paths_are_taken_from_the_current_folder_or_from_that_of_the_config(scans, tmp_path):
    write_list(tmp_path, "house_room0\n")
    config = tmp_path / "run.yaml"
    config.write_text("ingest: {source: scan, path: scans, train_list: list.txt}\n")
    loaded = load_config(config).ingest
    assert loaded.path == str(scans)
    assert loaded.train_list == str(tmp_path / "list.txt")


def test_a_scan_is_read_again_when_its_own_files_change_and_only_then(scans):
    def marks() -> dict[str, object]:
        run = run_on(scans)
        return {name: IngestStage(run).settings(name)["files"] for name in NAMES}

    before = marks()
    (scans / NAMES[0] / "frames" / "new.jpg").write_bytes(b"new")
    (scans / "beside.txt").write_text("no scan")
    after = marks()
    assert [name for name in NAMES if before[name] != after[name]] == [NAMES[0]]


def test_places_that_scans_share_are_looked_at_once(scans, monkeypatch):
    run = run_on(scans)
    detected = open_scan_sources(run).scan(NAMES[0])
    first = open_scan_sources(run).files(detected)
    assert first.size == sum(p.stat().st_size for p in (scans / NAMES[0]).rglob("*.*"))
    monkeypatch.setattr("pcdistill.artifacts.scan_sources._look_at", None)
    assert open_scan_sources(run).files(detected) == first


def test_what_scans_share_is_estimated_once(scans, monkeypatch):
    """A house whose rooms are scans of their own is not counted once a room."""
    run = run_on(scans)
    whole = open_scan_sources(run).files(open_scan_sources(run).scan(NAMES[0])).size
    together = sum(IngestStage(run).estimate(name) for name in NAMES)
    shared = scans / NAMES[0]

    def files(scan):
        return [shared]

    layout = open_scan_sources(run).scan(NAMES[0]).layout
    monkeypatch.setattr(
        "pcdistill.artifacts.scan_sources.READERS", {layout: READERS[layout]._replace(files=files)}
    )
    run = run_on(scans)
    assert sum(IngestStage(run).estimate(name) for name in NAMES) == 3 * (whole // 3) < together


def states_of(run: RunContext) -> Counter[UnitState]:
    return stage_states(run.workspace, [IngestStage(run)])["ingest"]


def test_names_and_fingerprints_outlive_the_raw_data(scans, tmp_path):
    file = write_list(tmp_path, "tower_room0\n")

    def run(**settings) -> RunContext:
        config = run_on(scans, validation_list=file, **settings).config
        return RunContext(replace(config, run=GeneralConfig(workspace=str(tmp_path / "run"))))

    save_scan_index(run())
    assert run_stages(run().config, [IngestStage]).done == 3
    before = [IngestStage(run()).settings(name) for name in NAMES]
    scans.rename(tmp_path / "elsewhere")
    (tmp_path / "list.txt").unlink()
    for place in ("missing", "an empty mount point"):
        assert split_scenes(run()).training == NAMES[:2], place
        assert split_scenes(run()).validation == ("tower_room0",), place
        assert [IngestStage(run()).settings(name) for name in NAMES] == before, place
        assert states_of(run())["done"] == 3, place
        scans.mkdir(exist_ok=True)
    save_scan_index(run())  # what is gone takes no memory away
    assert states_of(run(up_axis="y"))["stale"] == 3
    with pytest.raises(ConfigError, match=r"house_room0: has to be read again from .*scans, which"):
        run_stages(run(up_axis="y").config, [IngestStage])
    assert states_of(run())["done"] == 3


def test_what_is_remembered_of_other_scans_does_not_count(scans, tmp_path):
    workspace = GeneralConfig(workspace=str(tmp_path / "run"))
    save_scan_index(RunContext(replace(run_on(scans).config, run=workspace)))
    other = replace(run_on(tmp_path / "others").config, run=workspace)
    with pytest.raises(ConfigError, match="others: no such folder"):
        _ = open_scan_sources(RunContext(other)).index
    file = write_list(tmp_path, "house\n")
    listed = replace(run_on(scans, train_list=file).config, run=workspace)
    scans.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="scans: no such folder"):
        _ = open_scan_sources(RunContext(listed)).index


def test_a_workspace_inside_a_scan_is_no_part_of_it(scans):
    """Else whatever a run writes would make its own scan another one."""

    def mark() -> str:
        run = run_on(scans / NAMES[0])
        run = RunContext(
            replace(run.config, run=GeneralConfig(workspace=str(scans / NAMES[0] / "run")))
        )
        return open_scan_sources(run).files(open_scan_sources(run).scan(NAMES[0])).mark

    before = mark()
    (scans / NAMES[0] / "run").mkdir()
    (scans / NAMES[0] / "run" / "cloud.ply").write_text("ply")
    assert mark() == before
    (scans / NAMES[0] / "more.txt").write_text("of the scan")
    assert mark() != before
