"""The settings that the paper names, in what is the default and in the data sets' configurations.

Each departure has to be said in the file, on the line that makes it, as `# paper: VALUE`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import load_config
from pcdistill.scenes import load_label_set, load_vocabulary
from pcdistill.scenes.readers.matterport.region import open_matterport
from pcdistill.scenes.readers.scannet.scan import FRAME_STEP

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

TABLE_7: dict[str, Any] = {
    "distill.architecture": "MinkUNet18A",  # 4.1 and 6.1, "MinkowskiNet18A"
    "distill.width": 1,
    "distill.input": "constant",  # 6.1: "pure point cloud without color or other attributes"
    "distill.schedule": "linear",
    "distill.learning_rate": 1e-4,
    "distill.final_learning_rate": 1e-5,
    "distill.optimizer": "adam",  # 6.1 and Tab. 7; 4.1 says AdamW, the same without decay
    "distill.weight_decay": 0,  # 6.1
    "distill.adam_beta2": 0.999,  # Adam's own, where nothing is said
    "distill.batch_size": 12,
    "distill.epochs": 100,
    "distill.voxel_size": 0.02,
    "distill.ensemble_preset": "paper",  # Eq. 11 to 13
    "distill.ensemble_start": 0.7,  # 3.5: the last 30 of 100 epochs
    "distill.keep_superpoint_loss": True,  # 3.5: both
    "distill.ensemble_weight": 1,  # Eq. 13
    "run.prompt": "a {} in a scene",
    "run.vocabulary": "indoor",
    "synthesize.prompt": "a good photo of a {}",
    "fuse.mode": "paper",  # Eq. 7 and 8
    "score.pooled": False,  # Eq. 3 and 4
}
"""Tab. 7 and sections 3.2 to 3.5 and 6.1, indoor. Not given: alpha, tau, m, points, thresholds."""

DATA_SETS: dict[str, dict[str, Any]] = {
    "scannet": {
        "run.label_set": "scannet20",
        "distill.augment": "reference",  # the loaders of OpenScene and of the authors
        "run.teachers": "LSeg and SEEM",
        "ingest.frame_step": 20,
        "lift.depth_tolerance": 0.2,
    },
    "matterport": {
        "run.label_set": "matterport21",
        "distill.augment": "reference",  # the loaders of OpenScene and of the authors
        "run.teachers": "LSeg and SEEM",
        "ingest.frame_step": 1,
        "lift.depth_tolerance": 0.02,
    },
    "nuscenes": {
        "run.label_set": "nuscenes16",
        "distill.augment": "reference",  # the loaders of OpenScene and of the authors
        "run.teachers": "OpenSeg and SEEM",
        "run.vocabulary": "outdoor",
        "lift.occlusion": "none",
        "partition.method": "none",  # every point a superpoint
        "distill.batch_size": 8,
        "distill.voxel_size": 0.05,
    },
}
TEACHERS: dict[Any, tuple[str, ...]] = {
    "LSeg and SEEM": ("lseg", "seem"),
    "OpenSeg and SEEM": ("openseg", "seem"),
}
OF_THE_LAYOUT = {
    "scannet": {"ingest.frame_step": FRAME_STEP},
    "matterport": {"ingest.frame_step": 1},
}
"""What the layout takes where the configuration says nothing."""
NO_PROMPT = {"run.prompt": "a {} in a scene"}
"""What a text encoder reads where the configuration says nothing."""


OF_THE_PRESET = {
    "distill.ensemble_start": "start",
    "distill.ensemble_weight": "weight",
    "distill.keep_superpoint_loss": "keep_superpoint_loss",
}
"""What a named setting of the ensemble says where no key of its own does."""
OTHERWISE = {"distill.ensemble_preset": "targets"}
"""Defaults that are not the paper's, with the reason in docs/temporal_ensemble.md."""


def value_of(config: RunConfig, setting: str, unset: dict[str, Any]) -> Any:
    if setting in OF_THE_PRESET:
        return getattr(config.distill.ensemble, OF_THE_PRESET[setting])
    section, _, key = setting.partition(".")
    value = getattr(getattr(config, section), key)
    return unset[setting] if value is None else value


def lines_of(text: str) -> dict[str, str]:
    """Setting -> the line that sets it."""
    section, found = "", {}
    for line in text.splitlines():
        if header := re.match(r"(\w+):", line):
            section = header[1]
        elif key := re.match(r"  (\w+):", line):
            found[f"{section}.{key[1]}"] = line
    return found


def departures(name: str, text: str, config: RunConfig) -> list[str]:
    """Settings that differ from the paper's without saying what the paper's is."""
    lines = lines_of(text)
    unset = {**NO_PROMPT, **OF_THE_LAYOUT.get(name, {})}
    silent = []
    for setting, paper in {**TABLE_7, **DATA_SETS[name]}.items():
        if value_of(config, setting, unset) in (paper, TEACHERS.get(paper, paper)):
            continue
        said = re.search(r"# paper: ([^;]+?)(?:[;,] .*)?$", lines.get(setting, ""))
        if said is None or not is_the_same(said[1], paper):
            silent.append(f"{setting}: paper {paper}, here {lines.get(setting, 'a default')}")
    return silent


def is_the_same(text: str, paper: Any) -> bool:
    if isinstance(paper, int | float) and not isinstance(paper, bool):
        return float(text) == paper
    return text == str(paper)


@pytest.mark.parametrize("setting", TABLE_7)
def test_what_no_configuration_says_is_the_paper_s(setting):
    expected = OTHERWISE.get(setting, TABLE_7[setting])
    assert value_of(RunConfig(), setting, NO_PROMPT) == expected


@pytest.mark.parametrize("form", ["", "_small"])
@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_s_configuration_says_where_it_departs_from_the_paper(name, form):
    file = CONFIGS / f"{name}{form}.yaml"
    assert departures(name, file.read_text(), load_config(file)) == []


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_configuration_that_is_silent_about_it_would_be_found(name, tmp_path):
    """Each departure of the small form: without its note, and with another value in it."""
    text = (CONFIGS / f"{name}_small.yaml").read_text()
    noted = {s: line for s, line in lines_of(text).items() if "# paper: " in line}
    assert len(noted) >= 9
    for setting, line in noted.items():
        for wrong in (line.partition("#")[0], line.replace("# paper: ", "# paper: 3")):
            file = tmp_path / "run.yaml"
            file.write_text(text.replace(line, wrong))
            found = departures(name, file.read_text(), load_config(file))
            assert [f.partition(":")[0] for f in found] == [setting]
    file.write_text(text.replace("\nlift:", "\nfuse:\n  mode: release\n\nlift:"))
    assert departures(name, file.read_text(), load_config(file))


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_paper_s_form_departs_from_it_nowhere(name):
    """Not even with a note: it is the paper's."""
    file = CONFIGS / f"{name}.yaml"
    assert departures(name, file.read_text().replace("# paper: ", "# "), load_config(file)) == []


def test_what_the_paper_s_names_stand_for():
    """Sizes of its label sets and vocabularies, and that Matterport3D's every image is lifted."""
    assert len(load_label_set("scannet20").names) == 20
    assert len(load_label_set("matterport21").names) == 21
    nuscenes = load_label_set("nuscenes16")
    assert (len(nuscenes.names), len(nuscenes.prompts)) == (16, 43)  # Tab. 8
    assert nuscenes.template == load_label_set("scannet20").template == "a {} in a scene"
    assert (len(load_vocabulary("indoor")), len(load_vocabulary("outdoor"))) == (20, 23)  # Tab. 9
    assert "`frame_step` 1" in (open_matterport.__doc__ or "")
