"""Weights that cannot be read are said to be so, not to be missing or damaged."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from pcdistill.errors import UnreadableError
from pcdistill.networks import build_student, load_checkpoint, save_checkpoint
from pcdistill.teachers import build_text_encoder, text_encoders
from pcdistill.teachers.demo.network import load_network
from tests.file_modes import modes_that_hold

REFUSED = r"cannot be read or written \(Permission denied\)"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "."])
def test_a_text_encoder_that_cannot_be_read(tmp_path, monkeypatch, name):
    folder = tmp_path / "encoder"
    shutil.copytree(str(files("pcdistill.teachers.demo") / text_encoders.ENCODER_FOLDER), folder)
    monkeypatch.setattr(
        text_encoders, "ENCODER_FOLDER", str(folder)
    )  # absolute: joined, it stands alone
    text_encoders._static_model.cache_clear()
    mode = (folder / name).stat().st_mode
    (folder / name).chmod(0)
    try:
        with modes_that_hold(), pytest.raises(UnreadableError, match=REFUSED):
            build_text_encoder().encode(["bed"])
    finally:
        (folder / name).chmod(mode)
        text_encoders._static_model.cache_clear()


@pytest.mark.parametrize("layout", ["pcdistill", "minkowski"])
def test_a_student_that_cannot_be_read(tmp_path, layout):
    file = tmp_path / "student"
    save_checkpoint(file, build_student("MinkUNet14A", 3, 64, width=0.125), {}, layout=layout)
    file.chmod(0)
    with modes_that_hold(), pytest.raises(UnreadableError, match=REFUSED):
        load_checkpoint(file)
    with pytest.raises(UnreadableError, match=r"cannot be read or written \(Is a directory\)"):
        load_checkpoint(tmp_path)


def test_weights_of_a_teacher_that_cannot_be_read(tmp_path):
    file = tmp_path / "dense.safetensors"
    shutil.copy(Path(str(files("pcdistill.teachers.demo") / "weights" / "dense.safetensors")), file)
    file.chmod(0)
    with modes_that_hold(), pytest.raises(UnreadableError, match=REFUSED):
        load_network(file)
