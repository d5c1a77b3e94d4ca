"""Settings as data: each is explained, and what is said of it is what the dataclass says."""

from __future__ import annotations

from typing import Literal

import pytest

from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_docs import describe_sections, find_settings, kind_in_words
from pcdistill.pipeline.config_loading import config_to_dict


def test_every_setting_has_a_text():
    silent = [
        f"{section.name}.{setting.name}"
        for section in describe_sections()
        for setting in section.settings
        if not setting.text
    ]
    assert silent == []


def test_sections_settings_and_defaults_are_those_of_a_configuration():
    described = {
        section.name: {
            setting.name: list(s) if isinstance(s := setting.default, tuple) else s
            for setting in section.settings
        }
        for section in describe_sections()
    }
    assert described == config_to_dict(RunConfig())


def test_a_text_is_the_string_below_its_own_attribute():
    (distill,) = find_settings("distill")
    texts = {setting.name: setting.text for setting in distill.settings}
    assert texts["epochs"] == "Passes over the training scenes."
    assert texts["voxel_size"] == "Metres."
    assert "\n" not in texts["pretrained"]


def test_one_setting_can_be_chosen():
    (section,) = find_settings("lift.border")
    assert [setting.name for setting in section.settings] == ["border"]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("distil", "unknown section 'distil'; did you mean 'distill'?"),
        ("xyz", "expected one of: run, ingest, lift"),
        ("distill.epoch", "unknown setting 'distill.epoch'; did you mean 'epochs'?"),
        ("lift.", "unknown setting 'lift.'; expected one of: depth_tolerance, border"),
    ],
)
def test_a_mistyped_name_is_told_what_it_may_mean(wanted, sentence):
    with pytest.raises(ConfigError) as caught:
        find_settings(wanted)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "whole number"),
        (bool, "true or false"),
        (str | None, "text or null"),
        (tuple[str, ...], "list of texts"),
        (tuple[int, int] | None, "list of 2 whole numbers or null"),
        (Literal["a", "b"], "one of: a, b"),
        (tuple[Literal["a", "b"], ...], "list of any of: a, b"),
    ],
)
def test_kinds_in_words(kind, words):
    assert kind_in_words(kind) == words
