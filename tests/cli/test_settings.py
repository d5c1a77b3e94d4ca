"""`pcdistill settings`: every setting as it could stand in a file, with what it means."""

from __future__ import annotations

import json

import pytest
import yaml

from pcdistill.cli import run_command
from pcdistill.cli.settings import section_text
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_docs import describe_sections, find_settings
from pcdistill.pipeline.config_loading import config_to_dict
from pcdistill.pipeline.config_schema import config_schema
from tests.cli.test_lazy import probe


def test_all_sections_are_shown_with_their_defaults(capsys):
    assert run_command(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    settings = [line for line in lines if not line.startswith("      ")]
    assert yaml.safe_load("\n".join(settings)) == config_to_dict(RunConfig())


def test_a_setting_shows_its_kind_and_its_text(capsys):
    assert run_command(["settings", "lift.border"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        "lift:  # How what teachers see is carried onto points.",
        "  border: 10  # whole number",
        "      Pixels along the image border that see nothing.",
    ]


@pytest.mark.parametrize("width", [60, 100])
def test_lines_fit_the_terminal(width):
    for section in describe_sections():
        for line in section_text(section, width).plain.splitlines():
            texts = line.startswith("      ")
            assert not texts or len(line) <= width, line


def test_choices_that_do_not_fit_stand_below():
    text = section_text(find_settings("ingest.pose_convention")[0], 60).plain.splitlines()
    assert text[1] == "  pose_convention: camera_to_world"
    assert text[2].startswith("      # one of: camera_to_world, ")
    assert text[3].startswith("      # ")


def test_a_mistyped_section(capsys):
    assert run_command(["settings", "distil"]) == 2
    message = "error: unknown section 'distil'; did you mean 'distill'?\n"
    assert capsys.readouterr().err == message


def test_the_schema_can_be_printed(capsys):
    assert run_command(["settings", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == config_schema()


@pytest.mark.parametrize("arguments", [["settings"], ["settings", "--schema"]], ids=" ".join)
def test_neither_torch_nor_numpy_is_loaded(arguments):
    shown = probe(*arguments, without=("torch", "numpy", "numba", "scipy"))
    assert shown.returncode == 0, shown.stderr
