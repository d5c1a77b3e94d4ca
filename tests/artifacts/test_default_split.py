"""What is learned from is not measured by default, and where it is, it is said."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from pcdistill.artifacts import default_split as splits_module
from pcdistill.artifacts import open_artifacts, open_scan_sources, split_scenes
from pcdistill.artifacts.default_split import HELD_OUT, default_split, place_of
from pcdistill.artifacts.scan_sources import save_scan_index
from pcdistill.cli.execute import print_summary, scans_header
from pcdistill.pipeline.artifact_files import write_json
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.pretrained import StudentInputSpec
from pcdistill.pipeline.runner import RunSummary
from pcdistill.reporting.collect import _not_measured
from pcdistill.reporting.conclusions import REMEMBERS, conclusions
from pcdistill.scenes import Scene, write_scene
from pcdistill.scenes.readers.nuscenes.split import official_side
from pcdistill.stages.evaluate import EvaluateStage
from tests.fixtures.runs import finished_run


def write_stored(folder: Path, names, labelled=True) -> Path:
    for name in names:
        labels = torch.zeros(3, dtype=torch.int64) if labelled else None
        write_scene(Scene(name, torch.rand(3, 3), labels=labels), folder / name)
    return folder


def write_scannet(root: Path, names, *, labelled=True, split="scans") -> Path:
    """Scans of ScanNet by the names of their files."""
    for name in names:
        folder = root / split / name
        folder.mkdir(parents=True)
        for suffix in (".sens", "_vh_clean_2.ply", *(["_vh_clean_2.labels.ply"] * labelled)):
            (folder / f"{name}{suffix}").touch()
    return root


def write_matterport(root: Path, houses: dict[str, int]) -> Path:
    for house, regions in houses.items():
        for place in ("region_segmentations", "undistorted_camera_parameters"):
            (root / "scans" / house / place).mkdir(parents=True)
        for region in range(regions):
            file = root / "scans" / house / "region_segmentations" / f"region{region}"
            for suffix in (".ply", ".fsegs.json", ".semseg.json"):
                file.with_suffix(suffix).touch()
    return root


def run_on(path: Path, **ingest) -> RunContext:
    sections = {
        "run": {"workspace": str(path.parent / "run")},
        "ingest": {"source": "scan", "path": str(path), **ingest},
    }
    return RunContext(config_from_dict(sections, "test"))


def sides(run: RunContext) -> tuple[list[str], list[str]]:
    return list(split_scenes(run).training), list(split_scenes(run).validation)


def said(run: RunContext) -> str:
    """What the protocol line says of the scenes; the run's note when it begins says it too."""
    line = open_artifacts(run).protocol_line
    scenes = split_scenes(run).measured_on
    assert line.endswith(f"; measured on {scenes}") == bool(scenes)
    training, validation = map(len, sides(run))
    counts = f"learns from {training} scan{'s' * (training != 1)}, measures {validation}"
    assert scans_header(split_scenes(run)) == (f"{counts}: {scenes}" if scenes else counts)
    return scenes


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 10, 12])
def test_some_labelled_scans_are_held_out_and_said_to_be(tmp_path, count):
    names = [f"room_{number:02d}" for number in range(count)]
    run = run_on(write_stored(tmp_path / "scans", names))
    training, validation = sides(run)
    assert validation == (names[HELD_OUT - 1 :: HELD_OUT] or names[-1:])
    assert training == [name for name in names if name not in validation]
    fraction = f"{len(validation)} of {count} scans"
    assert said(run) == f"{fraction} held out of the training, as no list says which"
    assert sides(run_on(tmp_path / "scans")) == (training, validation)  # every time the same


def test_a_single_scan_is_learned_from_and_measured_and_says_so(tmp_path):
    scans = write_stored(tmp_path / "scans", ["room"])
    for path in (scans, scans / "room"):
        run = run_on(path)
        assert sides(run) == (["room"], ["room"])
        assert said(run) == "scenes that the student learned from"
        assert not conclusions(finished_run(run))  # nothing is measured yet
        numbers = {
            "name": "average",
            "miou": 30.0,
            "macc": 40.0,
            "protocol": open_artifacts(run).protocol_line,
        }
        write_json(run.workspace.evaluation("average") / "result.json", numbers)
        assert conclusions(finished_run(run))[0] == REMEMBERS
        stream = io.StringIO()
        console, done = Console(file=stream, width=300), RunSummary(done=1)
        print_summary(console, finished_run(run), done, questions=False)
        printed = " ".join(stream.getvalue().split())  # long lines are wrapped
        assert "measured on scenes that the student learned from" in printed
        assert REMEMBERS in stream.getvalue()
        shutil.rmtree(run.workspace.root)


def test_scans_without_labels_are_all_learned_from_and_shown(tmp_path):
    names = ["one", "two", "three"]
    run = run_on(write_stored(tmp_path / "scans", names, labelled=False))
    assert sides(run) == (sorted(names), sorted(names))
    assert said(run) == "scenes that the student learned from"
    assert _not_measured(split_scenes(run)).endswith(
        "what is shown are scenes that the student learned from"
    )


def test_of_scans_with_and_without_labels_some_with_labels_are_held_out(tmp_path):
    scans = write_stored(tmp_path / "scans", ["a", "b", "c"])
    write_stored(scans, ["d", "e"], labelled=False)
    assert sides(run_on(scans)) == (["a", "b", "d", "e"], ["c"])


def test_scans_of_one_place_are_on_one_side(tmp_path):
    """The same room scanned twice is not another room."""
    names = [f"scene{room:04d}_{scan:02d}" for room in range(6) for scan in range(2)]
    run = run_on(write_scannet(tmp_path / "scannet", names))
    training, validation = sides(run)
    assert validation == ["scene0004_00", "scene0004_01"]
    assert not {place_of(name) for name in training} & {place_of(name) for name in validation}
    assert said(run) == "1 of 6 places held out of the training, as no list says which"
    one_room = write_scannet(tmp_path / "room", ["scene0007_00", "scene0007_01"])
    assert said(run_on(one_room)) == "scenes that the student learned from"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("scene0000_01", "scene0000"),
        ("Kr7TnQw2pLz_region12", "Kr7TnQw2pLz"),
        ("scene-0061_07", "scene-0061"),
        ("v1.0-mini_scene-0061_07", "v1.0-mini_scene-0061"),
        ("scan_1", "scan_1"),
        ("kitchen_region", "kitchen_region"),
    ],
)
def test_a_place_is_what_several_scans_show(name, place):
    assert place_of(name) == place


@pytest.mark.parametrize("above", [False, True])
def test_scannet_s_published_list_beside_the_data_is_taken(tmp_path, above):
    names = [f"scene{number:04d}_00" for number in range(7)]
    root = write_scannet(tmp_path / "scannet", names)
    write_scannet(root, ["scene0707_00"], labelled=False, split="scans_test")
    (root / "scannetv2_val.txt").write_text("scene0001_00\nscene0002_00\nscene0999_00\n")
    run = run_on(root / "scans" if above else root)
    training, validation = sides(run)
    assert validation == ["scene0001_00", "scene0002_00"]
    assert training == [name for name in names if name not in validation]  # and no test scan
    assert said(run) == "2 scans of scannetv2_val.txt"
    (root / "scannetv2_train.txt").write_text("scene0003_00\n")
    assert sides(run_on(root)) == (["scene0003_00"], validation)


def test_a_list_that_leaves_nothing_to_learn_from_is_not_taken(tmp_path):
    """Two scans of the validation set: better one to learn from than none; said as it is."""
    names = ["scene0001_00", "scene0002_00"]
    root = write_scannet(tmp_path / "scannet", names)
    (root / "scannetv2_val.txt").write_text("\n".join(names))
    run = run_on(root)
    assert sides(run) == (names[:1], names[1:])
    assert said(run).startswith("1 of 2 scans held out")


def test_a_scan_that_lacks_its_mesh_is_nothing_to_learn_from(tmp_path):
    root = write_scannet(tmp_path / "scannet", ["scene0001_00", "scene0002_00"])
    (root / "scans" / "scene0002_00" / "scene0002_00_vh_clean_2.ply").unlink()
    (root / "scannetv2_val.txt").write_text("scene0001_00\n")
    run = run_on(root)
    assert sides(run) == (["scene0001_00", "scene0002_00"],) * 2
    assert said(run).startswith("scenes that the student learned from")


def test_matterport_is_measured_on_its_test_houses(tmp_path):
    """As the paper does; of its validation houses nothing is learned either."""
    root = write_matterport(tmp_path / "matterport", {"aaa": 2, "bbb": 1, "ccc": 2, "ddd": 1})
    (root / "scenes_val.txt").write_text("bbb\n")
    run = run_on(root)
    assert said(run) == "1 scan of scenes_val.txt"
    assert sides(run)[1] == ["bbb_region0"]
    (root / "scenes_test.txt").write_text("ccc\n")
    run = run_on(root)
    assert sides(run) == (
        ["aaa_region0", "aaa_region1", "ddd_region0"],
        ["ccc_region0", "ccc_region1"],
    )
    assert said(run) == "2 scans of scenes_test.txt"
    (root / "scenes_test.txt").unlink(), (root / "scenes_val.txt").unlink()
    assert sides(run_on(root))[1] == ["ddd_region0"]


def test_a_house_alone_is_one_place(tmp_path):
    run = run_on(write_matterport(tmp_path / "matterport", {"aaa": 3}))
    assert sides(run)[0] == sides(run)[1] == ["aaa_region0", "aaa_region1", "aaa_region2"]
    assert said(run) == "scenes that the student learned from"


def test_openscene_s_folders_say_which_scans_are_measured(tmp_path):
    root = tmp_path / "openscene"
    for split, names in (("train", "ab"), ("val", "c"), ("test", "d")):
        for number, letter in enumerate(names):
            file = root / "scannet_3d" / split / f"scene{ord(letter):04d}_0{number}_vh_clean_2.pth"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    run = run_on(root)
    assert sides(run) == (["scene0097_00", "scene0098_01"], ["scene0099_00"])
    assert said(run) == "1 scan of the data set's own division"
    clips = tmp_path / "clips"
    for place in ("train/scene-0001", "train/scene-0002", "val/scene-0003"):
        (clips / place / "frames").mkdir(parents=True)
        (clips / place / "scene.ply").touch()
    run = run_on(clips)
    assert sides(run) == (["scene-0001", "scene-0002"], ["scene-0003"])


def nuscenes(monkeypatch, folder: Path, version: str, drives) -> RunContext:
    """A run on keyframes that its tables would tell."""
    tables = folder / version
    tables.mkdir(parents=True)
    for name in ("scene.json", "sample.json", "lidarseg.json"):
        (tables / name).write_text("[]")
    keyframes = {
        f"{drive}_{n:02d}": SimpleNamespace(token=f"{drive}{n}") for drive in drives for n in (0, 1)
    }
    monkeypatch.setattr(
        "pcdistill.scenes.readers.nuscenes.keyframe.read_keyframes", lambda tables: keyframes
    )
    return run_on(folder)


@pytest.mark.parametrize(
    ("version", "validation"), [("v1.0-trainval", "scene-0553"), ("v1.0-mini", "scene-0103")]
)
def test_nuscenes_is_measured_on_its_official_drives(tmp_path, monkeypatch, version, validation):
    """A drive may be for training in the small version and for validation in the whole one."""
    drives = ["scene-0061", "scene-0103", "scene-0553"]
    run = nuscenes(monkeypatch, tmp_path / "nuscenes", version, drives)
    own = {"v1.0-trainval": {"scene-0103", "scene-0553"}, "v1.0-mini": {"scene-0103"}}[version]
    assert {place_of(name) for name in sides(run)[1]} == own
    assert validation in own
    assert {place_of(name) for name in sides(run)[0]} == set(drives) - own
    assert said(run) == f"{2 * len(own)} scans of the data set's own division"


def test_a_single_drive_is_learned_from_and_measured_and_says_so(tmp_path, monkeypatch):
    """Keyframes of a drive are half a second apart: no two scenes."""
    run = nuscenes(monkeypatch, tmp_path / "nuscenes", "v1.0-mini", ["scene-0061"])
    assert len(sides(run)[0]) == len(sides(run)[1]) == 2
    assert said(run) == "scenes that the student learned from"


def test_the_official_sides_of_nuscenes():
    numbers = [
        n for n in range(1, 1111) if official_side("v1.0-trainval", f"scene-{n:04d}") == "val"
    ]
    assert len(numbers) == 150
    assert (numbers[0], numbers[-1]) == (3, 1073)
    assert official_side("v1.0-trainval", "scene-0061") == "train"
    assert official_side("v1.0-test", "scene-0077") == "test"
    assert official_side("v1.0-own", "scene-0003") == ""
    assert official_side("v1.0-mini", "town") == ""


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        ("abc", "abc", "scenes that the student learned from"),
        ("ab", "bc", "2 scenes, 1 of them scenes that the student learned from"),
        ("ab", "c", ""),
        (None, "abc", "scenes that the student learned from"),
    ],
)
def test_lists_that_overlap_are_said_to(tmp_path, training, validation, expected):
    scans = write_stored(tmp_path / "scans", "abc")
    lists = {}
    for key, names in (("train_list", training), ("validation_list", validation)):
        if names is not None:
            lists[key] = str(tmp_path / f"{key}.txt")
            Path(lists[key]).write_text("\n".join(names))
    assert said(run_on(scans, **lists)) == expected


@pytest.mark.parametrize(
    ("learned", "expected"),
    [
        ([], ""),
        (["x"], ""),
        (["a", "x"], "3 scenes, 1 of them scenes of the names of those"),
        (["a", "b", "c"], "scenes of the names of those that the student learned from"),
    ],
)
def test_a_given_student_is_measured_on_all_and_its_own_scenes_are_told(
    tmp_path, learned, expected
):
    scans = write_stored(tmp_path / "scans", "abc")
    sections = {
        "run": {"workspace": str(tmp_path / "run"), "teachers": []},
        "ingest": {"source": "scan", "path": str(scans)},
        "distill": {"pretrained": "given"},
    }
    run = RunContext(config_from_dict(sections, "test"))
    needs = StudentInputSpec(0.02, "constant")
    run.pretrained = SimpleNamespace(prompt=None, provenance={"scenes": learned}, needs=needs)
    assert sides(run) == ([], ["a", "b", "c"])
    assert said(run).startswith(expected)
    assert bool(said(run)) == bool(expected)


def test_what_is_measured_on_is_part_of_the_result(tmp_path):
    """A list that makes the student learn from what is measured makes the numbers stale."""
    scans = write_stored(tmp_path / "scans", "abc")
    for side, names in (("t", "ab"), ("v", "c"), ("w", "abc")):
        (tmp_path / side).write_text("\n".join(names))
    apart = run_on(scans, train_list=str(tmp_path / "t"), validation_list=str(tmp_path / "v"))
    same = run_on(scans, train_list=str(tmp_path / "w"), validation_list=str(tmp_path / "v"))
    settings = [
        EvaluateStage(run).settings("teacher:demo-dense")["protocol"] for run in (apart, same)
    ]
    assert settings[1] == settings[0] + "; measured on scenes that the student learned from"


def test_the_division_outlives_the_raw_data(tmp_path):
    scans = write_stored(tmp_path / "scans", "abc")
    before = run_on(scans)
    save_scan_index(before)
    scans.rename(tmp_path / "elsewhere")
    after = run_on(scans)
    assert sides(after) == sides(before)
    assert open_scan_sources(after).index.why == open_scan_sources(before).index.why != ""


def test_homes_say_nothing_of_it():
    run = RunContext(config_from_dict({}, "test"))
    assert split_scenes(run).measured_on == ""


def test_a_scan_s_labels_are_looked_for_once(tmp_path, monkeypatch):
    """Forty thousand keyframes are looked through at every start."""
    scans = write_stored(tmp_path / "scans", "abc")
    found = open_scan_sources(run_on(scans)).index.found
    asked = []
    known = splits_module._division
    monkeypatch.setattr(splits_module, "_division", lambda scan: asked.append(scan) or known(scan))
    default_split(scans, found, trains=True)
    assert len(asked) == len(found)
