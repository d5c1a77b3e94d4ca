"""Settings of readers are written once: a run's configuration and the readers take the same."""

import subprocess
import sys
from dataclasses import fields
from typing import get_args

import pytest

from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import IngestConfig
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.reader_settings import PoseConventionName, ReaderSettings
from tests.scenes.readers.test_base import OTHER


def test_a_configuration_hands_on_every_setting():
    given = {name: value for name, value in OTHER.items() if name != "label_set"}
    settings = IngestConfig(source="scan", **given).with_label_set(OTHER["label_set"])
    assert type(settings) is ReaderSettings
    assert vars(settings) == OTHER
    assert {field.name for field in fields(ReaderSettings)} == {*OTHER}


@pytest.mark.parametrize(
    "wrong",
    [{"frame_step": 0}, {"depth_scale": -1.0}, {"image_size": (0, 3)}, {"fuse_voxel_size": 0.0}],
)
def test_both_refuse_the_same_and_the_configuration_names_its_section(wrong):
    with pytest.raises(ConfigError) as of_reader:
        ReaderSettings(**wrong)
    with pytest.raises(ConfigError) as of_run:
        IngestConfig(**wrong)
    assert str(of_run.value) == f"ingest.{of_reader.value}"


def test_every_pose_convention_can_be_read():
    assert get_args(PoseConventionName) == tuple(POSE_CONVENTIONS)


def test_a_configuration_loads_nothing_heavy():
    code = "import sys, pcdistill.pipeline.config; assert not {'torch', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
