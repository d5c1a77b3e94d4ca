"""Files and folders without the right to read them: said so, never called missing or damaged."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from pcdistill.errors import PcdistillError, SceneError
from pcdistill.scenes import Scene, find_scans, load_label_set, open_scene, write_scene
from tests.scenes.test_disguises import CAPTURES, FUSED

NOBODY = 65534
LIES = ("missing", "damaged", "no such", "has no", "none of", "restore the original")


@pytest.fixture
def place():
    """A folder below folders that everybody may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="pcdistill-"))
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def nobody():
    """Root may read everything: be somebody who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


def locked(path, act):
    """What `act` says while nobody may read `path`."""
    own = os.geteuid()
    try:
        os.seteuid(os.getuid())
        mode = path.stat().st_mode
        path.chmod(0)
        os.seteuid(own)
        with pytest.raises(PcdistillError) as caught:
            act()
    finally:
        os.seteuid(os.getuid())
        path.chmod(mode)
        os.seteuid(own)
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
def test_what_may_not_be_read_is_called_so(place, nobody, caplog, name):
    os.seteuid(os.getuid())
    folder = place / "room"
    CAPTURES[name][0](folder)
    look(name, folder)  # all that is imported late may lie where nobody may read
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if os.getuid() == 0:
        os.seteuid(NOBODY)
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


def test_a_neighbour_that_may_not_be_read_is_named_and_left_out(place, nobody, caplog):
    os.seteuid(os.getuid())
    for name in ("attic", "cellar"):
        CAPTURES["nerfstudio"][0](place / name)
    if os.getuid() == 0:
        (place / "cellar").chmod(0o700)
        os.seteuid(NOBODY)
    else:
        (place / "cellar").chmod(0)
    with caplog.at_level(logging.WARNING):
        assert [scan.name for scan in find_scans(place)] == ["attic"]
    assert "cellar: cannot be read" in caplog.text.replace("/scene.json", "")


def test_stored_scenes_and_label_sets(place, nobody):
    os.seteuid(os.getuid())
    write_scene(Scene("room", torch.rand(4, 3)), place / "room")
    (place / "words.json").write_text('{"name": "a", "categories": [{"name": "wall"}]}')
    load_label_set(place / "words.json")
    for path in place.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    for name in ("scene.json", "points.safetensors"):
        said = locked(place / "room" / name, lambda: open_scene(place / "room"))
        assert "cannot be read (Permission denied)" in said
        assert not any(lie in said for lie in LIES)
    said = locked(place / "words.json", lambda: load_label_set(place / "words.json"))
    assert "cannot be read (Permission denied)" in said
    with pytest.raises(SceneError, match="no such folder"):
        find_scans(place / "nowhere")
