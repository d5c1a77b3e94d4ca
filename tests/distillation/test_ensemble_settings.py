"""Named settings of the temporal ensemble, and what departs from them."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from pcdistill.distillation.ensemble_settings import PRESETS
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.errors import ConfigError


def test_the_paper_s_labels_are_the_student_s_own():
    """Eq. 11 to 13 and section 3.5; decay and temperature are not given."""
    paper = TrainerSettings(ensemble_preset="paper").ensemble
    assert (paper.begins_with, paper.point_labels) == ("student", "point")
    assert (paper.start, paper.weight, paper.keep_superpoint_loss) == (0.7, 1, True)
    assert not paper.unit_outputs


def test_the_release_s_labels_hardly_change():
    release = TrainerSettings(ensemble_preset="release").ensemble
    assert (release.begins_with, release.point_labels) == ("student", "superpoint")
    assert (release.decay, release.temperature, release.weight) == (0.9999, 1, 1)
    assert not release.keep_superpoint_loss
    assert not release.unit_outputs


def test_the_default_labels_by_the_targets():
    default = TrainerSettings().ensemble
    assert default == PRESETS["targets"]
    assert (default.begins_with, default.decay) == ("targets", 1)
    assert (default.unit_outputs, default.temperature) == (True, 0.1)
    assert default.keep_superpoint_loss


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ensemble_start", 0.4),
        ("ensemble_decay", 0.3),
        ("ensemble_temperature", 0.2),
        ("ensemble_weight", 0.0),
        ("keep_superpoint_loss", True),
        ("keep_superpoint_loss", False),
    ],
)
def test_a_key_departs_from_the_preset_in_one_thing(preset, key, value):
    found = asdict(TrainerSettings(ensemble_preset=preset, **{key: value}).ensemble)
    expected = asdict(PRESETS[preset]) | {key.removeprefix("ensemble_"): value}
    assert found == expected


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ConfigError, match=r"distill\.ensemble_decay must be in \[0, 1\], got"):
        TrainerSettings(ensemble_decay=decay)
