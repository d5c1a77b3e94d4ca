"""Scans are found by what folders hold: one, several, those of a data set, or none."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import (
    READERS,
    Scan,
    Scene,
    detect_scans,
    find_scans,
    open_scene,
    write_scene,
)


def stored(folder, points=4, **fields):
    """A stored scene of some points."""
    scene = Scene(folder.name, torch.arange(3.0 * points).view(points, 3), **fields)
    write_scene(scene, folder)
    return scene


@pytest.fixture
def several(tmp_path):
    """A folder with three stored scenes and things that are none."""
    for number, name in enumerate(("attic", "bath", "cellar")):
        stored(tmp_path / name, points=number + 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").write_text("three rooms")
    return tmp_path


def test_every_scan_of_a_folder_is_found_by_its_name(several):
    assert [scan.name for scan in find_scans(several)] == ["attic", "bath", "cellar"]
    assert find_scans(several / "bath") == (Scan("bath", several / "bath"),)
    assert find_scans(several / "notes") == ()
    assert {found.layout for found in detect_scans(several)} == {"stored"}


def test_one_of_several_is_opened_by_its_name(several):
    assert len(open_scene(several, part="bath").points) == 2
    assert len(open_scene(several / "cellar").points) == 3


def test_several_scans_are_listed_where_one_is_expected(several):
    message = r"holds 3 scans \(attic, bath, cellar\), expected one; choose it with part=\"attic\""
    with pytest.raises(SceneError, match=message):
        open_scene(several)


def test_a_misspelt_scan_is_suggested(several):
    with pytest.raises(SceneError, match=r"has no scan 'celar'; did you mean 'cellar'\?"):
        open_scene(several, part="celar")


def test_scans_of_one_name_are_told_apart_by_the_folder_above(tmp_path, monkeypatch):
    def find(folder):
        below = folder / "scan"
        return (Scan("scan", below),) if (below / "only-here").is_dir() else ()

    for house in ("a", "b"):
        (tmp_path / house / "scan" / "only-here").mkdir(parents=True)
    reader = READERS["stored"]._replace(find=find)
    monkeypatch.setattr("pcdistill.scenes.readers.detection.READERS", {"test": reader})
    assert [scan.name for scan in find_scans(tmp_path)] == ["a-scan", "b-scan"]


def test_a_folder_may_hold_scans_of_different_layouts(several):
    for kind in ("color", "depth", "pose"):
        (several / "capture" / kind).mkdir(parents=True)
    found = {detected.scan.name: detected.layout for detected in detect_scans(several)}
    expected = dict.fromkeys(("attic", "bath", "cellar"), "stored")
    assert found == {**expected, "capture": "rgbd"}


def test_an_unknown_setting_is_suggested(several):
    with pytest.raises(ConfigError, match="unknown scene setting 'frame_stp'.*'frame_step'"):
        open_scene(several, part="bath", frame_stp=2)


def test_a_file_that_nobody_reads_is_refused(several):
    with pytest.raises(SceneError, match=r"readme\.txt: is a file, expected the folder of a scan"):
        open_scene(several / "readme.txt")


def test_a_stored_scene_keeps_its_labels(tmp_path):
    labels = torch.tensor([0, 1, 2, 255])
    stored(tmp_path / "s", labels=labels, label_set="scannet20")
    assert torch.equal(open_scene(tmp_path / "s", label_set="scannet20").labels, labels)
    with pytest.raises(SceneError, match="labelled with 'scannet20', expected 'nuscenes16'"):
        open_scene(tmp_path / "s", label_set="nuscenes16")


def test_no_data_set_is_taken_for_another(data_root):
    """Each folder of one data set is recognised by one reader alone; others hold several."""
    claims = {
        place.name: [n for n, reader in READERS.items() if n != "bare" and reader.find(place)]
        for place in sorted(data_root.iterdir())
        if place.is_dir() and place.name.startswith(tuple(n.split("_")[0] for n in READERS))
    }
    assert claims
    for name, readers in claims.items():
        assert len(readers) <= 1, f"{name} is claimed by {readers}"
    for name, (reader, *_) in ((n, r) for n, r in claims.items() if r):
        stem = {"nuscenes_clips": "nuscenes_openscene"}.get(reader, reader)
        assert name.startswith(stem)


def test_a_file_is_asked_of_every_reader(tmp_path):
    place = tmp_path / "notes.txt"
    place.write_text("no scan")
    for name, reader in READERS.items():
        assert tuple(reader.find(place)) == (), name
        assert tuple(reader.find(tmp_path / "nowhere")) == (), name
