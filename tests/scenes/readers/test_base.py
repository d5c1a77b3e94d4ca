"""Settings that layouts do not take are refused in one place, before a scan is opened."""

from dataclasses import fields

import pytest

from pcdistill.errors import ConfigError
from pcdistill.scenes import READERS, ReaderSettings, Scan
from pcdistill.scenes.readers.base import Reader, Refusal, refuse_all_but

OTHER = {
    "depth_scale": 500.0,
    "up_axis": "y",
    "frame_step": 2,
    "image_size": (30, 40),
    "pose_convention": "world_to_camera",
    "surface_file": "other.ply",
    "fuse_voxel_size": 0.1,
    "label_set": "nuscenes16",
    "align_axes": True,
    "intrinsics": "openscene",
    "sweeps": True,
}
"""A value of each setting that is not its default."""


def test_every_refusal_is_of_a_setting_and_says_which(tmp_path):
    scan = Scan("a", tmp_path / "{a}")
    assert set(OTHER) == {field.name for field in fields(ReaderSettings)}
    for layout, reader in READERS.items():
        reader.require_taken(scan, ReaderSettings())
        for name, value in OTHER.items():
            settings = ReaderSettings(**{name: value})
            if name not in reader.settings:
                reader.require_taken(scan, settings)
                continue
            with pytest.raises(ConfigError, match=rf"\b{name}\b.*(leave|name that)"):
                reader.require_taken(scan, settings)
                pytest.fail(layout)


def test_a_layout_may_allow_a_value_besides_the_default(tmp_path):
    refusals = {"frame_step": Refusal("{folder}: {name} is {value}", allowed=(1,))}
    reader = Reader("nothing", lambda _: (), None, settings=refusals)
    scan = Scan("a", tmp_path / "{a}")
    for step in (None, 1):
        reader.require_taken(scan, ReaderSettings(frame_step=step))
    with pytest.raises(ConfigError) as error:
        reader.require_taken(scan, ReaderSettings(frame_step=2))
    assert str(error.value) == f"{scan.folder}: frame_step is 2"


def test_label_sets_come_with_every_run():
    assert set(refuse_all_but("up_axis")) == {*OTHER} - {"up_axis", "label_set"}
