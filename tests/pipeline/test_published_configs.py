"""The configs of the paper: its settings, and one sentence for all weights that are missing."""

from __future__ import annotations

import pytest

from pcdistill.errors import ConfigError, MissingWeightsError
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.context import RunContext
from pcdistill.teachers import WEIGHT_FILES
from tests.conftest import REPOSITORY

INDOOR = {"lseg", "clip-vit-b-32"}
OUTDOOR = {"openseg", "clip-vit-l-14-336"}
ALWAYS = {"seem", "tap", "tap-tokenizer", "stable-diffusion-1.5", "sam-vit-h"}
PAPER = {
    "scannet": (INDOOR, 0.02, 12),
    "matterport": (INDOOR, 0.02, 12),
    "nuscenes": (OUTDOOR, 0.05, 8),
}


def config_of(name: str, *changes: str):
    return load_config(REPOSITORY / "configs" / f"{name}.yaml", list(changes))


@pytest.mark.parametrize("name", PAPER)
def test_the_settings_are_those_of_the_paper(name):
    """Section 4, and Tab. 7 of the supplement."""
    _, voxel_size, batch_size = PAPER[name]
    config = config_of(name)
    student = config.distill
    assert (student.voxel_size, student.batch_size, student.epochs) == (voxel_size, batch_size, 100)
    assert (student.learning_rate, student.final_learning_rate) == (1e-4, 1e-5)
    assert (student.schedule, student.architecture, student.width) == ("linear", "MinkUNet18A", 1)
    assert student.input == "constant"
    assert config.run.prompt is None  # a {} in a scene
    assert config.run.caption_wording == "paper"
    assert config.synthesize.prompt == "a good photo of a {}"


@pytest.mark.parametrize("name", PAPER)
def test_all_missing_weights_are_in_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError) as caught:
        RunContext(config_of(name)).validate()
    said = str(caught.value)
    listed = said.split("the weights ")[1].split(" are not there")[0]
    assert set(listed.split(", ")) == PAPER[name][0] | ALWAYS
    assert said.startswith(f"{tmp_path}: ")
    assert "\n" not in said
    for missing in PAPER[name][0] | ALWAYS:
        known = WEIGHT_FILES[missing]
        assert known.direct or known.address in said
    assert "`pcdistill weights fetch " in said


def test_one_that_is_missing_has_its_own_sentence(tmp_path):
    changes = ["run.teachers=[lseg]", f"run.weights_folder={tmp_path}", "score.table=none.json"]
    (tmp_path / "ViT-B-32.pt").write_bytes(b"not read before it is needed")
    with pytest.raises(MissingWeightsError, match="the weights 'lseg' are not there; get "):
        RunContext(config_of("scannet", *changes)).validate()


def test_with_a_table_neither_generator_nor_segmenter_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError) as caught:
        RunContext(config_of("scannet", "score.table=table.json")).validate()
    assert "stable-diffusion" not in str(caught.value)
    assert "sam-vit" not in str(caught.value)


@pytest.mark.parametrize("name", PAPER)
def test_the_small_forms_need_no_weights(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_WEIGHTS", str(tmp_path))
    config = config_of(f"{name}_small")
    assert config.run.label_set == config_of(name).run.label_set
    RunContext(config).validate()


def test_another_text_space_is_told_before_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_WEIGHTS", str(tmp_path))
    with pytest.raises(ConfigError, match="lives in the text space") as caught:
        RunContext(config_of("scannet", "run.text_encoder=static")).validate()
    assert not isinstance(caught.value, MissingWeightsError)
