"""Files and folders without the right to read them: said so, never called missing or damaged."""

from __future__ import annotations

import logging

import pytest
import torch

from pcdistill.errors import PcdistillError, SceneError
from pcdistill.scenes import Scene, find_scans, load_label_set, open_scene, write_scene
from tests.file_modes import modes_that_hold
from tests.scenes.test_disguises import CAPTURES, FUSED

LIES = ("missing", "damaged", "no such", "has no", "none of", "restore the original")


def locked(path, act):
    """What `act` says while nobody may read `path`."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with modes_that_hold(), pytest.raises(PcdistillError) as caught:
            act()
    finally:
        path.chmod(mode)
    return str(caught.value)


def look(name, folder):
    settings = {"fuse_voxel_size": 0.1} if name in FUSED else {}
    for frame in open_scene(folder, **settings, **CAPTURES[name][2]).frames:
        frame.image(), frame.depth()


def kinds(folder):
    """One file of each kind in each folder, and the folders."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        key = path if path.is_dir() else (path.parent, path.suffix, path.stem[:4])
        seen.setdefault(key, path)
    return [*seen.values(), folder]


@pytest.mark.parametrize("name", [name for name in CAPTURES if not name.startswith("nuscenes")])
def test_what_may_not_be_read_is_called_so(tmp_path, caplog, name):
    folder = tmp_path / "room"
    CAPTURES[name][0](folder)
    unused = []
    for path in kinds(folder):
        try:
            said = locked(path, lambda: look(name, folder))
        except pytest.fail.Exception:
            unused.append(path.name)
            continue
        if path.name == "val":  # a split that cannot be looked into: a warning, then the frames
            said = caplog.text
        assert "cannot be read (Permission denied)" in said, (path, said)
        assert not any(lie in said for lie in LIES), (path, said)
    assert len(unused) < 0.5 * len(kinds(folder)), unused


def test_a_neighbor_that_may_not_be_read_is_named_and_left_out(tmp_path, caplog):
    for name in ("attic", "cellar"):
        CAPTURES["nerfstudio"][0](tmp_path / name)
    (tmp_path / "cellar").chmod(0)
    with modes_that_hold(), caplog.at_level(logging.WARNING):
        assert [scan.name for scan in find_scans(tmp_path)] == ["attic"]
    (tmp_path / "cellar").chmod(0o755)
    assert "cellar: cannot be read" in caplog.text.replace("/scene.json", "")


def test_stored_scenes_and_label_sets(tmp_path):
    write_scene(Scene("room", torch.rand(4, 3)), tmp_path / "room")
    for name in ("scene.json", "points.safetensors"):
        said = locked(tmp_path / "room" / name, lambda: open_scene(tmp_path / "room"))
        assert "cannot be read (Permission denied)" in said
        assert not any(lie in said for lie in LIES)
    words = tmp_path / "words.json"
    words.write_text('{"name": "a", "categories": [{"name": "wall"}]}')
    assert "cannot be read (Permission denied)" in locked(words, lambda: load_label_set(words))
    with pytest.raises(SceneError, match="no such folder"):
        find_scans(tmp_path / "nowhere")
