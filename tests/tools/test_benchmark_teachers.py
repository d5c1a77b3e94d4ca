"""The benchmarks of teachers know what is in the table, and measure what they say."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import pytest
import yaml

from pcdistill.pipeline.config_loading import load_config
from pcdistill.teachers import TEACHERS, WEIGHT_FILES
from tools.benchmarks import teacher_run, teachers
from tools.benchmarks.random_folders import FOLDERS
from tools.benchmarks.random_weights import RANDOM


def test_they_know_teachers_and_files_of_the_tables():
    assert set(teachers.NEEDS) <= set(TEACHERS)
    needed = {entry for entries in teachers.NEEDS.values() for entry in entries}
    assert needed <= set(RANDOM) | set(FOLDERS) <= set(WEIGHT_FILES)


@pytest.mark.thorough
def test_a_teacher_is_measured_in_a_process_of_its_own(capsys):
    parser = argparse.ArgumentParser()
    teachers.add_arguments(parser)
    wanted = ["--teachers", "demo-dense", "--images", "1", "--size", "48", "64", "--threads", "1"]
    found = teachers.run(parser.parse_args(wanted))["demo-dense"]
    assert found["peak_gib"] >= found["peak_gib_without_teacher"] > 0.05
    assert found["first_seconds"] >= 0
    assert "demo-dense" in capsys.readouterr().out


def test_the_run_of_two_teachers_has_settings_that_load(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(teacher_run.settings(tmp_path, ["lseg", "seem"])))
    config = load_config(file)
    assert config.run.teachers == ("lseg", "seem")
    assert config.run.text_encoder == "clip-vit-b-32"


def test_memory_of_children_counts():
    child = "input(); x = bytearray(300 << 20); print('made', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", child], stdin=pipe, stdout=pipe) as process:
        before = teacher_run.resident_gib(os.getpid())
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        alone = teacher_run.resident_gib(process.pid)
        assert 0.29 < alone < 0.5
        assert teacher_run.resident_gib(os.getpid()) > before
        process.communicate(b"\n")
