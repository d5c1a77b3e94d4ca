"""A run refuses what does not fit together before it begins."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest

from pcdistill import teachers
from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import (
    DistillConfig,
    EvaluateConfig,
    GeneralConfig,
    RunConfig,
    SynthesizeConfig,
)
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.pretrained import StudentInputSpec


class ForeignTeacher:
    name = "foreign"
    text_space = "clip-vit-b-32"
    dimensions = 512
    provenance: ClassVar[dict[str, str]] = {}


def test_teachers_of_another_text_space_are_refused_naming_both(monkeypatch):
    monkeypatch.setitem(teachers.TEACHERS, "foreign", lambda _: ForeignTeacher())
    run = RunContext(RunConfig(run=GeneralConfig(teachers=("demo-dense", "foreign"))))
    with pytest.raises(ConfigError) as caught:
        run.validate()
    message = str(caught.value)
    assert "'foreign' lives in the text space 'clip-vit-b-32'" in message
    assert "'static-minilm-64'" in message
    assert "run.teachers" in message


def test_a_text_space_is_refused_before_weights_are_looked_for(tmp_path):
    general = GeneralConfig(text_encoder="clip-vit-b-32", weights_folder=str(tmp_path))
    message = "'static-minilm-64' but the text encoder of the run gives 'clip-vit-b-32'"
    with pytest.raises(ConfigError, match=message):
        RunContext(RunConfig(run=general)).validate()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"generator": "embeded"}, "unknown image generator 'embeded'; did you mean 'embedded'?"),
        (
            {"segmenter": "superpixel"},
            "unknown segmenter 'superpixel'; did you mean 'superpixels'?",
        ),
    ],
)
def test_unknown_models_are_named(changes, sentence):
    config = replace(RunConfig(), synthesize=SynthesizeConfig(**changes))
    with pytest.raises(ConfigError, match=sentence.replace("?", r"\?")):
        RunContext(config).validate()


def test_classes_that_cannot_be_drawn_are_named_before_the_work():
    run = RunContext(RunConfig(run=GeneralConfig(vocabulary="outdoor")))
    with pytest.raises(ConfigError) as caught:
        run.validate()
    assert str(caught.value) == (
        "run.vocabulary is 'outdoor' but the image generator 'embedded' cannot draw person, bus, "
        "grass, car and 18 more of its 23 classes; set run.vocabulary: indoor, or "
        "synthesize.generator to one that draws them"
    )


def test_a_prompt_of_which_nothing_can_be_drawn_is_named_before_the_work():
    prompt = "a bed beside a {}"
    run = RunContext(RunConfig(synthesize=SynthesizeConfig(prompt=prompt)))
    with pytest.raises(ConfigError) as caught:
        run.validate()
    assert str(caught.value) == (
        f"synthesize.prompt is '{prompt}', with which the image generator 'embedded' cannot draw "
        "bookshelf, table, wall, bathtub and 15 more of its 20 classes; let it name the class "
        "alone, such as 'a good photo of a {}'"
    )
    with pytest.raises(ConfigError, match=r"synthesize.prompt must be a text with one \{\}, got a"):
        SynthesizeConfig(prompt="a good photo")
    RunContext(
        RunConfig(synthesize=SynthesizeConfig(prompt="a good photo of a {} in a room"))
    ).validate()


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = RunConfig()
    config = replace(config, distill=replace(config.distill, device="cuda"))
    with pytest.raises(ConfigError, match="distill.device is 'cuda' but this machine has no CUDA"):
        _ = RunContext(config).device


def test_an_engine_that_needs_a_gpu_is_refused_on_the_cpu_before_the_work():
    config = RunConfig()
    config = replace(config, distill=replace(config.distill, device="cpu", engine="triton"))
    with pytest.raises(ConfigError, match="distill.engine is 'triton', .* set distill.engine: tor"):
        RunContext(config).validate()


@pytest.mark.parametrize("name", ["bed", "{}", "{room}", "a } and a {", "{0}", "[bold]bed"])
@pytest.mark.parametrize(
    "prompt", ["a {} in a scene", "a {} in a {room}", "{{}}", "{0} {} {1!r}", "} {} {", "[b]{}[/b]"]
)
def test_braces_in_a_prompt_or_a_name_are_text(prompt, name):
    run = RunContext(RunConfig(run=GeneralConfig(prompt=prompt)))
    before, _, after = prompt.partition("{}")
    assert run.words.prompts([name]) == [before + name + after]


def test_a_label_set_s_own_template_makes_its_prompts(tmp_path):
    """What the config says comes first; the vocabulary keeps its own."""
    file = tmp_path / "rooms.json"
    file.write_text(json.dumps({"template": "the {} of a {home}", "categories": ["bed", "sofa"]}))
    run = RunContext(RunConfig(run=GeneralConfig(label_set=str(file))))
    assert run.words.label_prompts == ["the bed of a {home}", "the sofa of a {home}"]
    assert run.words.prompts(["bed"]) == ["a bed in a scene"]
    said = RunContext(RunConfig(run=GeneralConfig(label_set=str(file), prompt="a {}")))
    assert said.words.label_prompts == ["a bed", "a sofa"]
    assert said.words.prompts(["bed"]) == ["a bed"]


@pytest.mark.parametrize("trained", [None, "the {}"])
@pytest.mark.parametrize("told", [None, "a {}", "a {} in a scene"])
@pytest.mark.parametrize("protocol", ["every point", "openscene"])
def test_openscene_s_protocol_asks_as_openscene_does_unless_told_otherwise(protocol, told, trained):
    """Whatever a trained student read; pseudo labels are no matter of a protocol."""
    config = RunConfig(
        run=GeneralConfig(label_set="scannet20", prompt=told), evaluate=EvaluateConfig(protocol)
    )
    run = RunContext(config)
    run.pretrained = trained and SimpleNamespace(prompt=trained, needs=StudentInputSpec(0.02, ""))
    asked = told or trained or "a {} in a scene"
    own = [asked.replace("{}", name) for name in run.label_set.names]
    assert run.words.training_prompts == own
    if protocol == "openscene" and told is None:
        published = [f"a {name} in a scene" for name in run.label_set.names[:-1]]
        assert run.words.label_prompts == [*published, "other"]
        assert run.protocol.departures == ()
    else:
        assert run.words.label_prompts == own
        assert run.protocol.prompt_template == asked
        named = protocol == "openscene" and told == "a {}"
        assert run.protocol.departures == (
            ("the prompt 'a {}' instead of 'a {} in a scene'",) if named else ()
        )


def test_openscene_asks_for_nuscenes_by_its_43_detailed_names():
    run = RunContext(
        RunConfig(run=GeneralConfig(label_set="nuscenes16"), evaluate=EvaluateConfig("openscene"))
    )
    assert len(run.words.label_prompts) == 43
    assert run.words.label_prompts[0] == "a barrier in a scene"
    assert "other" not in run.words.label_prompts  # "other flat" is asked for by what it is
    assert run.words.label_embeddings.shape[0] == 43


def test_without_teachers_a_protocol_scores_all_points():
    """No frame tells what is seen, whatever is asked for."""
    settings = GeneralConfig(teachers=())
    given = DistillConfig(pretrained="given")
    for points in (None, "seen", "all"):
        config = RunConfig(
            run=settings, distill=given, evaluate=EvaluateConfig("every point", points)
        )
        run = RunContext(config)
        run.pretrained = None
        assert run.protocol.points == "all"


@pytest.mark.parametrize("given", [None, 0.3])
def test_the_voxels_of_the_protocol_are_those_of_the_student(given):
    """As its file says, where it was given; else as the run trains it."""
    run = RunContext(
        RunConfig(evaluate=EvaluateConfig("openscene"), distill=DistillConfig(voxel_size=0.07))
    )
    run.pretrained = given and SimpleNamespace(
        prompt=None, needs=StudentInputSpec(given, "constant")
    )
    assert run.protocol.voxel_size == (given or 0.07)
    assert run.protocol.departures == (f"voxels of {given or 0.07} m instead of 0.02 m",)
