"""A configuration file is checked to the last key before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_from_dict, config_to_dict, load_config

REPOSITORY = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load_config(write(tmp_path, "")) == RunConfig()


def test_values_and_overrides_arrive(tmp_path):
    path = write(tmp_path, "distill:\n  epochs: 7\n  students: [point]\nlift:\n  border: 3\n")
    config = load_config(path, ["distill.epochs=9", "fuse.temperature=0.2", "run.seed=4"])
    assert config.distill.epochs == 9
    assert config.distill.students == ("point",)
    assert config.lift.border == 3
    assert config.fuse.temperature == 0.2
    assert config.run.seed == 4


def test_a_whole_number_is_a_number(tmp_path):
    assert load_config(write(tmp_path, "distill:\n  width: 1\n")).distill.width == 1.0


def test_the_folder_of_a_diffusion_model_is_seen_from_the_file_and_a_name_stays(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    for said, expected in (
        ("models/mine", str(tmp_path / "models" / "mine")),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", None),
        ("stable-diffusion-1.5", None),
    ):
        config = load_config(write(tmp_path, f"synthesize:\n  model: {said}\n"))
        assert config.synthesize.model == (expected or said)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("distil:\n  epochs: 3\n", ["unknown section 'distil'", "did you mean 'distill'?"]),
        ("distill:\n  epoch: 3\n", ["unknown key 'distill.epoch'", "did you mean 'epochs'?"]),
        ("distill:\n  epochs: many\n", ["distill.epochs is 'many'", "a whole number"]),
        ("distill:\n  epochs: true\n", ["distill.epochs is True", "a whole number"]),
        ("distill:\n  epochs: 0\n", ["distill.epochs must be at least 1, got 0"]),
        ("distill:\n  learning_rate: 1e-3\n", ["the text '1e-3'", "1.0e-3"]),
        ("distill:\n  students: point\n", ["distill.students is 'point'", "a list"]),
        ("distill:\n  students: [points]\n", ["distill.students[0]", "did you mean 'point'?"]),
        ("ingest:\n  source: home\n", ["ingest.source is 'home'", "did you mean 'homes'?"]),
        ("ingest:\n  image_size: [240]\n", ["ingest.image_size", "a list of 2 values"]),
        ("fuse:\n  temperature: 0\n", ["fuse.temperature must be > 0, got 0.0"]),
        ("run:\n  teachers: [demo-dense, demo-dense]\n", ["run.teachers", "different names"]),
        ('run:\n  title: "a\\ud800"\n', ["run.title: 'a\\ud800' is no text", "as UTF-8"]),
        ('run:\n  weights: {"\\ud800": x}\n', ["run.weights: '\\ud800' is no text"]),
        ("run:\n  ? [a]\n  : b\n", ["not valid YAML at line 2: found unhashable key"]),
        ("run: 5\n", ["section 'run' is int"]),
        ("- a\n- b\n", ["found list", "sections as a mapping"]),
        ("run: [\n", ["not valid YAML at line"]),
        (
            "run:\n  seed: 1\n  title: a\n  seed: 2\n",
            ["not valid YAML at line 4: 'seed' is given twice, first in line 2"],
        ),
        ("lift:\n  border: 1\nfuse:\nlift:\n", ["line 4: 'lift' is given twice, first in line 1"]),
        ("run:\n  seed: -1\n", ["run.seed must be 0 or more, got -1"]),
        ("distill:\n  learning_rate: .nan\n", ["distill.learning_rate is nan", "finite"]),
        ("lift:\n  depth_tolerance: .inf\n", ["lift.depth_tolerance is inf", "finite"]),
        ("distill:\n  final_learning_rate: -1.0\n", ["final_learning_rate must be >= 0"]),
        ("distill:\n  ensemble_temperature: 0.0\n", ["ensemble_temperature must be > 0, got 0.0"]),
        ("distill:\n  ensemble_weight: -0.5\n", ["ensemble_weight must be >= 0, got -0.5"]),
        (
            "distill:\n  max_voxels_per_step: -3\n",
            ["max_voxels_per_step must be 0 (all) or more, got -3"],
        ),
        ("distill:\n  students: [point, point]\n", ["distill.students must be different names"]),
        ("synthesize:\n  steps: 0\n", ["synthesize.steps must be at least 1, got 0"]),
        ("synthesize:\n  batch: 0\n", ["synthesize.batch must be at least 1, got 0"]),
        ("synthesize:\n  guidance: -1.0\n", ["synthesize.guidance must be 0 or more, got -1.0"]),
        ("synthesize:\n  model: ''\n", ["synthesize.model must be a name or a folder, got none"]),
        (
            "synthesize:\n  image_size: [512, 510]\n",
            ["synthesize.image_size must be two multiples of 8, got (512, 510)"],
        ),
        ("synthesize:\n  image_size: [0, 8]\n", ["must be two multiples of 8, got (0, 8)"]),
        ("synthesize:\n  images: 0\n", ["synthesize.images must be at least 1, got 0"]),
        ("distill:\n  epochs: 1\n", ["distill.epochs must be at least 2", "superpoint+ensemble"]),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, text, parts):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("override", ["epochs=3", "distill.epochs", "=3", "distill.=3"])
def test_an_override_has_section_key_and_value(tmp_path, override):
    with pytest.raises(ConfigError, match="expected section.key=value"):
        load_config(write(tmp_path, ""), [override])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_configuration_survives_being_written(tmp_path):
    config = load_config(REPOSITORY / "configs" / "demo.yaml", ["run.seed=3"])
    plain = yaml.safe_load(yaml.safe_dump(config_to_dict(config)))
    assert config_from_dict(plain, "copy") == config


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_configuration_loads(path):
    assert load_config(path).run.title


@pytest.mark.parametrize("epochs", [2, 3, 4, 7, 100])
@pytest.mark.parametrize("fraction", [0.01, 0.7, 0.85, 0.99])
def test_an_ensemble_begins_whatever_the_number_of_epochs(epochs, fraction):
    distill = {"epochs": epochs, "ensemble_start": fraction}
    begin = config_from_dict({"distill": distill}, "test").distill.ensemble_epoch
    assert 1 <= begin < epochs
    assert abs(begin - fraction * epochs) <= 1
