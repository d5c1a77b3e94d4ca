"""Which stages a change makes stale: every field of the configuration, label sets, vocabularies.

The tables are written by hand, from what the stages read. A field that they do not name fails, so
that a new one is thought about when it is made.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest
import torch

from pcdistill import teachers
from pcdistill.artifacts import ScanSources, open_scan_sources
from pcdistill.artifacts.scan_sources import FileSummary, ScanIndex
from pcdistill.capability.generators.rendered import RenderedImageGenerator
from pcdistill.capability.registry import GENERATORS, SEGMENTERS
from pcdistill.networks import build_student, save_checkpoint
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import fingerprint
from pcdistill.scenes import READERS, DetectedScan, Scene, write_scene
from pcdistill.scenes.label_sets import (
    CATEGORY_KEYS,
    FILE_KEYS,
    PROMPT_KEYS,
    label_set_names,
    vocabulary_names,
)
from pcdistill.scenes.readers.base import Scan
from pcdistill.segmenters import SuperpixelSegmenter
from pcdistill.stages import STAGES, ingest
from pcdistill.teachers import build_teacher, registry
from tests.capability.generators.tiny_diffusion import write_model_files

Marks = dict[str, dict[str, str]]
"""Stage -> unit -> fingerprint."""


class Reach(NamedTuple):
    """Stages that a field reaches in three runs; empty where it reaches none."""

    homes: str = ""
    """Generated homes, two teachers, own students."""
    scans: str = ""
    """Two scans on disk, two teachers, own students."""
    given: str = ""
    """The same scans, no teacher, a student that is trained already."""


ALL = "ingest partition lift synthesize score fuse distill evaluate report"
SCENES = "ingest partition lift fuse distill evaluate report"
"""What is made of the content of scenes: all but what teachers are measured on."""
SCENES_OF_GIVEN = "ingest partition evaluate report"  # its student is only copied
LIFTED = "lift fuse distill evaluate report"
DRAWN = "synthesize score fuse distill evaluate report"
SCORED = "score fuse distill evaluate report"
FUSED = "fuse distill evaluate report"
STUDENT = "distill evaluate report"
MEASURED = "evaluate report"
SHOWN = "report"

READ = Reach("", SCENES, SCENES_OF_GIVEN)
"""How scans are read."""
NOTHING = Reach()

CONFIG: dict[str, Reach] = {
    "run.title": Reach(SHOWN, SHOWN, SHOWN),
    "run.workspace": NOTHING,
    # the scans are there, only what is drawn by chance; the given student draws nothing
    "run.seed": Reach(ALL, DRAWN, SHOWN),
    "run.text_encoder": Reach(SCORED, SCORED, MEASURED),
    # classes of the ensemble's pseudo labels and of what is measured; a scan's own labels do not
    # change, and evaluate refuses those of another set
    "run.label_set": Reach(STUDENT, STUDENT, MEASURED),
    # a given student's questions are compared with its words
    "run.vocabulary": Reach(DRAWN, DRAWN, SHOWN),
    "run.prompt": Reach(SCORED, SCORED, MEASURED),
    # where a file is; what is in it counts by the revision of the teacher that reads it
    "run.weights": NOTHING,
    "run.weights_folder": NOTHING,
    # by the revision of a teacher that describes what it finds; these two do it on their own
    "run.captioner": NOTHING,
    "run.caption_wording": NOTHING,
    "run.teachers": Reach(
        LIFTED + " score", LIFTED + " score", "lift synthesize score fuse evaluate report"
    ),
    "ingest.source": Reach(SCENES, SCENES, SCENES_OF_GIVEN),
    "ingest.path": READ,
    "ingest.homes": Reach(SCENES),
    "ingest.train": Reach(SCENES),
    "ingest.validation": Reach("ingest partition lift fuse evaluate report"),
    "ingest.frames": Reach(SCENES),
    "ingest.image_size": READ._replace(homes=SCENES),
    "ingest.frame_step": READ,
    "ingest.depth_scale": READ,
    "ingest.up_axis": READ,
    "ingest.pose_convention": READ,
    "ingest.surface_file": READ,
    "ingest.fuse_voxel_size": READ,
    "ingest.align_axes": READ,
    "ingest.intrinsics": READ,
    "ingest.sweeps": READ,
    # one scene to learn from, the other to measure; a given student learns from none
    "ingest.train_list": Reach("", STUDENT, SCENES_OF_GIVEN),
    "ingest.validation_list": Reach("", STUDENT, SCENES_OF_GIVEN),
    # the report draws frames with the points they see
    "lift.depth_tolerance": Reach(LIFTED, LIFTED, SHOWN),
    "lift.border": Reach(LIFTED, LIFTED, SHOWN),
    "lift.occlusion": Reach(LIFTED, LIFTED, SHOWN),
    # all scans are measured, so that all keep their features
    "lift.store_features": Reach(LIFTED),
    "lift.batch": NOTHING,
    "lift.workers": NOTHING,
    "synthesize.generator": Reach(DRAWN, DRAWN),
    "synthesize.prompt": Reach(DRAWN, DRAWN),
    "synthesize.segmenter": Reach(DRAWN, DRAWN),
    "synthesize.images": Reach(DRAWN, DRAWN),
    "synthesize.threshold": Reach(DRAWN, DRAWN),
    "synthesize.prompt_points": Reach(DRAWN, DRAWN),
    "synthesize.clean_border": Reach(DRAWN, DRAWN),
    # from auto to measure, where no table has the scores: the same (tests of a table are elsewhere)
    "score.table": NOTHING,
    # those of a diffusion model, which does not draw here; see below
    **{
        f"synthesize.{key}": NOTHING
        for key in ("model", "revision", "steps", "guidance", "image_size", "batch")
    },
    "score.pooled": Reach(SCORED, SCORED),
    "fuse.temperature": Reach(FUSED, FUSED),
    "fuse.mode": Reach(FUSED, FUSED),
    "fuse.store_point_features": Reach(FUSED, FUSED),
    **{
        f"partition.{key}": Reach(
            "partition " + FUSED, "partition " + FUSED, "partition " + MEASURED
        )
        for key in ("method", "threshold", "min_size", "neighbors", "color_weight")
    },
    # nothing is learned from the training homes any more; another student for the given one
    "distill.pretrained": Reach(SCENES, STUDENT, STUDENT),
    "distill.students": Reach(STUDENT, STUDENT),
    # what a given file may not say of itself
    "distill.input": Reach(STUDENT, STUDENT, STUDENT),
    "distill.voxel_size": Reach(STUDENT, STUDENT, STUDENT),
    "distill.device": NOTHING,
    "distill.workers": NOTHING,
    "distill.log": NOTHING,
    "distill.tensorboard": NOTHING,
    **{
        f"distill.{key}": Reach(STUDENT, STUDENT)
        for key in (
            *("architecture", "width", "epochs", "batch_size", "max_voxels_per_step", "augment"),
            *("ensemble_start", "ensemble_decay", "ensemble_temperature", "ensemble_weight"),
            *("keep_superpoint_loss", "learning_rate", "final_learning_rate", "schedule"),
            *("adam_beta2", "revoxelize_every", "precision", "engine", "optimizer", "weight_decay"),
            *("accumulate", "max_gradient_norm", "ema_decay", "ensemble_preset"),
            *("max_voxels_per_batch", "batch_order"),
            *("validate_every", "answer"),
        )
    },
    "evaluate.protocol": Reach(MEASURED, MEASURED, MEASURED),
    # without teachers no frame tells what is seen, and all points are scored
    "evaluate.scored_points": Reach(MEASURED, MEASURED),
    "evaluate.votes": Reach(MEASURED, MEASURED, MEASURED),
    # without teachers there is nothing to take beside the student
    "evaluate.ensemble": Reach(MEASURED, MEASURED),
    **{
        f"report.{key}": Reach(SHOWN, SHOWN, SHOWN)
        for key in ("scenes", "queries", "expected_classes", "heat_maps", "example_classes")
    },
}

LABEL_SET: dict[str, str] = {
    "name": MEASURED,  # the scenes' own must be the same
    "source": "",
    "note": "",
    "template": STUDENT,
    "ignore_label": MEASURED,
    "categories": STUDENT,
    "categories[].name": STUDENT,  # prompts are made of them, where there are no others
    "categories[].color": MEASURED,
    "categories[].released_as": "",
    "categories[].id": MEASURED,
    "categories[].group": MEASURED,
    "prompts": STUDENT,
    "prompts[].name": STUDENT,
    "prompts[].category": STUDENT,
}
VOCABULARY: dict[str, str] = {
    **dict.fromkeys(("name", "source", "note"), ""),
    "categories": DRAWN,
    "categories[]": DRAWN,
}

HOMES = {"ingest": {"train": 2, "validation": 1}, "lift": {}, "distill": {"epochs": 10}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two folders of scans, a list of one, and two trained students."""
    root = tmp_path_factory.mktemp("fields")
    for place, names in (("scans", ("one", "two")), ("others", ("three", "four"))):
        for name in names:
            write_scene(Scene(name, torch.rand(5, 3)), root / place / name)
    (root / "list.txt").write_text("one\n")
    for seed, name in enumerate(("given", "other")):
        torch.manual_seed(seed)
        network = build_student("MinkUNet14A", 3, 64, width=0.125)
        save_checkpoint(root / f"{name}.safetensors", network, {"config": {"input": "constant"}})
    return root


@pytest.fixture(autouse=True)
def known_models(monkeypatch):
    """Teachers are loaded once; of encoders, generators and segmenters there is a second."""
    built: dict[str, teachers.Teacher] = {}

    def build(name, setup):
        if name not in built:
            built[name] = build_teacher(name, setup)
        return built[name]

    monkeypatch.setattr(registry, "build_teacher", build)
    monkeypatch.setitem(
        teachers.text_encoders.TEXT_ENCODERS, "other", lambda _: teachers.StaticTextEncoder()
    )
    monkeypatch.setitem(SEGMENTERS, "other", lambda _: SuperpixelSegmenter())
    monkeypatch.setitem(GENERATORS, "other", lambda _: RenderedImageGenerator())


def base(kind: str, folder: Path) -> RunConfig:
    sections: dict[str, Any] = copy.deepcopy(HOMES)
    sections["run"] = {"workspace": str(folder / "run")}
    if kind != "homes":
        sections["ingest"] = {"source": "scan", "path": str(folder / "scans")}
    if kind == "given":
        sections["run"]["teachers"] = []
        sections["distill"]["pretrained"] = str(folder / "given.safetensors")
    return config_from_dict(sections, "test")


def fields() -> list[str]:
    """Every field of every section, as the dataclasses have them."""
    sections = get_type_hints(RunConfig)
    return [
        f"{name}.{field.name}" for name in sections for field in dataclasses.fields(sections[name])
    ]


def other_value(setting: str, kind: Any, value: Any, folder: Path) -> Any:
    """Another possible value: named below where it is a name or has bounds, else by its type."""
    named = {
        "run.text_encoder": "other",
        "run.label_set": "replica",
        "run.vocabulary": "outdoor",
        "run.prompt": "the {}",
        "run.weights": {"lseg": str(folder / "list.txt")},
        "run.captioner": "tap",
        "run.caption_wording": "release",
        "synthesize.image_size": (16, 24),
        "synthesize.prompt": "a good photo of a {} in a room",
        "synthesize.generator": "other",
        "synthesize.segmenter": "other",
        "score.table": "measure",
        "run.teachers": ("demo-dense",),
        "ingest.path": str(folder / "others"),
        "ingest.surface_file": "mesh.ply",
        "ingest.train_list": str(folder / "list.txt"),
        "ingest.validation_list": str(folder / "list.txt"),
        "ingest.image_size": (24, 32),
        "evaluate.protocol": "openscene",
        "evaluate.scored_points": "all",
        "distill.students": ("superpoint",),
        "distill.pretrained": str(folder / "other.safetensors"),
        "distill.architecture": "MinkUNet34C",
        "distill.keep_superpoint_loss": False,
        "distill.input": "color" if value != "color" else "constant",
    }
    if setting in named:
        return named[setting]
    if get_origin(kind) in (Union, UnionType):
        kind = next(a for a in get_args(kind) if a is not type(None))
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != value)
    if get_origin(kind) is tuple:
        return (*value, "something else")
    if kind is bool:
        return not value
    if kind is int:
        return (value or 0) + 2
    if kind is float:
        return 0.5 * value if value else 0.5
    assert kind is str, f"{setting}: write down another value of {kind}"
    return f"{value}-other"


def marks_of(run: RunContext) -> Marks:
    """The fingerprint of every unit if all it needs were done."""
    stages = {stage.name: stage for stage in STAGES}

    @functools.cache
    def mark(stage: str, unit: str) -> str:
        inputs = stages[stage](run).inputs(unit)
        marks = {
            f"{needed.stage} {needed.unit}": mark(needed.stage, needed.unit) for needed in inputs
        }
        return fingerprint(stages[stage], stages[stage](run).settings(unit), marks)

    return {name: {unit: mark(name, unit) for unit in stages[name](run).units()} for name in stages}


def stale(before: Marks, after: Marks) -> str:
    """Stages of which some unit is new, gone, or to be made anew; in order."""
    return " ".join(stage for stage in before if before[stage] != after[stage])


def in_order(stages: str) -> str:
    return " ".join(sorted(set(stages.split()), key=ALL.split().index))


@pytest.fixture(scope="module")
def known_marks() -> dict[str, Marks]:
    return {}


@pytest.mark.parametrize("kind", Reach._fields)
@pytest.mark.parametrize("setting", fields())
def test_a_setting_makes_stale_what_depends_on_it(folder, known_marks, setting, kind):
    assert setting in CONFIG, f"say which stages {setting} reaches"
    config = base(kind, folder)
    if kind not in known_marks:
        known_marks[kind] = marks_of(RunContext(config))
    section, _, key = setting.partition(".")
    values = getattr(config, section)
    hint = get_type_hints(type(values))[key]
    new = other_value(setting, hint, getattr(values, key), folder)
    if setting == "ingest.source" and kind == "homes":
        config = replace(config, ingest=replace(config.ingest, path=str(folder / "scans")))
        values = config.ingest
    changed = replace(config, **{section: replace(values, **{key: new})})
    assert changed != config
    found = stale(known_marks[kind], marks_of(RunContext(changed)))
    assert found == in_order(getattr(CONFIG[setting], kind))


@pytest.mark.parametrize(
    ("settings", "reached"),
    [
        ({"model": "renamed"}, ""),  # the same files elsewhere
        ({"model": "other"}, DRAWN),
        ({"steps": 20}, DRAWN),
        ({"guidance": 7.5}, DRAWN),
        ({"image_size": [64, 96]}, DRAWN),
        ({"image_size": [64, 64]}, ""),  # that of the model
        ({"batch": 1}, ""),
    ],
)
def test_what_a_diffusion_model_draws_is_drawn_again(tmp_path, settings, reached):
    """Where its files change or it is told otherwise; nothing of it is loaded."""
    for name, seed in (("model", 0), ("renamed", 0), ("other", 1)):
        write_model_files(tmp_path / name, seed)
    marks = []
    for chosen in ({}, settings):
        chosen = {"model": "model", **chosen}
        chosen["model"] = str(tmp_path / chosen["model"])
        sections = {**HOMES, "synthesize": {"generator": "stable-diffusion", **chosen}}
        sections["run"] = {"workspace": str(tmp_path / "run")}
        marks.append(marks_of(RunContext(config_from_dict(sections, "test"))))
    assert stale(*marks) == reached


def test_no_setting_is_named_that_there_is_not():
    assert set(CONFIG) == set(fields())


def content_of(kind: str, name: str) -> dict[str, Any]:
    text = (files("pcdistill.scenes") / kind / f"{name}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def places(content: dict[str, Any]) -> list[str]:
    """Every kind of field of a JSON file: `categories[].color` for that of all categories."""
    found = dict.fromkeys(content)
    for key, value in content.items():
        for entry in value if isinstance(value, list) else ():
            found |= dict.fromkeys(
                [f"{key}[].{name}" for name in entry] if isinstance(entry, dict) else [f"{key}[]"]
            )
    return list(found)


def with_other(content: dict[str, Any], place: str) -> dict[str, Any]:
    """The same with another value at one place."""
    content = copy.deepcopy(content)
    key, inside, name = place.partition("[]")
    if not inside:
        value = content[key]
        if key == "ignore_label":
            content[key] = value - 1
        elif key == "template":
            content[key] = "the {}"
        elif key == "categories":
            value.append("lamp post")
            needed = {"id": 5000, "group": "tail"}
            if "id" in value[0]:
                known = {key: needed[key] for key in needed if key in value[0]}
                value[-1] = {"name": "lamp post", **known}
            if "prompts" in content:
                content["prompts"].append({"name": "lamp post", "category": "lamp post"})
        elif key == "prompts":
            value.append({"name": "lamp post", "category": value[0]["category"]})
        else:
            content[key] = f"{value}, otherwise"
        return content
    entries, name = content[key], name.removeprefix(".")
    if not name:
        entries[0] = "lamp post"
        return content
    first = next(entry for entry in entries if isinstance(entry, dict) and name in entry)
    if name == "color":
        first[name] = [1, 2, 3]
    elif name == "id":
        first[name] = 5000
    elif name == "category":
        kept = {e["category"] for e in entries}
        first = next(e for e in entries if [x["category"] for x in entries].count(e[name]) > 1)
        first[name] = next(other for other in sorted(kept) if other != first[name])
    else:
        old, first[name] = first[name], "lamp post"
        if key == "categories" and name == "name":
            for prompt in content.get("prompts", ()):
                prompt["category"] = {old: "lamp post"}.get(prompt["category"], prompt["category"])
    return content


def file_marks(tmp_path: Path, setting: str, content: dict[str, Any]) -> Marks:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(content))
    sections = {**HOMES, "run": {"workspace": str(tmp_path), setting: str(path)}}
    return marks_of(RunContext(config_from_dict(sections, "test")))


@pytest.mark.parametrize("name", label_set_names())
def test_every_field_of_every_label_set_makes_stale_what_depends_on_it(tmp_path, name):
    content = content_of("label_sets", name)
    before = file_marks(tmp_path, "label_set", content)
    for place in places(content):
        assert place in LABEL_SET, f"say which stages {place} reaches"
        expected = LABEL_SET[place]
        if place == "categories[].name" and "prompts" in content:
            expected = MEASURED  # the prompts have nouns of their own
        found = stale(before, file_marks(tmp_path, "label_set", with_other(content, place)))
        assert found == expected, place


@pytest.mark.parametrize("name", vocabulary_names())
def test_every_field_of_every_vocabulary_makes_stale_what_depends_on_it(tmp_path, name):
    content = content_of("vocabularies", name)
    before = file_marks(tmp_path, "vocabulary", content)
    for place in places(content):
        assert place in VOCABULARY, f"say which stages {place} reaches"
        found = stale(before, file_marks(tmp_path, "vocabulary", with_other(content, place)))
        assert found == VOCABULARY[place], place


def test_every_key_that_a_label_set_may_have_is_named():
    known = {
        *FILE_KEYS,
        *(f"categories[].{key}" for key in CATEGORY_KEYS),
        *(f"prompts[].{key}" for key in PROMPT_KEYS),
    }
    assert set(LABEL_SET) == known


@pytest.mark.parametrize("layout", READERS)
def test_a_scan_is_read_again_where_its_labels_are_those_of_the_run_s_label_set(
    tmp_path, monkeypatch, layout
):
    """ScanNet's numbers and Matterport's names are mapped; other layouts have one set or none."""

    monkeypatch.setattr(ScanSources, "files", lambda self, scan: FileSummary("mark", 0, 0))

    def settings(label_set: str) -> str:
        sections = {
            "run": {"workspace": str(tmp_path), "label_set": label_set},
            "ingest": {"source": "scan", "path": str(tmp_path)},
        }
        run = RunContext(config_from_dict(sections, "test"))
        found = {"a": DetectedScan(layout, Scan("a", tmp_path, "part"))}
        open_scan_sources(run).index = ScanIndex(found, ("a",), ("a",))
        return json.dumps(dict(ingest.IngestStage(run).settings("a")), sort_keys=True, default=str)

    again = settings("scannet20") != settings("scannet200")
    assert again == (layout in ("scannet", "matterport"))


def test_words_make_stale_what_a_teacher_saw_that_was_asked_for_them(folder, tmp_path, monkeypatch):
    """Teachers that find what they know see the same whatever the vocabulary is."""
    monkeypatch.setattr(registry, "build_teacher", build_teacher)
    known = teachers.WEIGHT_FILES["sam3"]
    (tmp_path / known.file_name).mkdir()
    for part in known.parts:
        (tmp_path / known.file_name / part.replace("*", "a")).write_bytes(b"0")
    marks = []
    for vocabulary in ("indoor", "outdoor"):
        config = base("scans", folder)
        run = replace(
            config.run, teachers=("sam3",), weights_folder=str(tmp_path), vocabulary=vocabulary
        )
        marks.append(marks_of(RunContext(replace(config, run=run))))
    assert stale(*marks) == in_order("lift " + DRAWN)


def test_other_weights_of_the_text_encoder_make_stale_what_is_embedded(folder, monkeypatch):
    """Under the same name; captions of masks are embedded as they are lifted."""

    class OfFile(teachers.StaticTextEncoder):
        def __init__(self, revision: str) -> None:
            self.provenance = {"revision": revision}

    marks = []
    for revision in ("1", "2"):
        known = teachers.text_encoders.TEXT_ENCODERS
        monkeypatch.setitem(known, "static", lambda _, revision=revision: OfFile(revision))
        marks.append(marks_of(RunContext(base("scans", folder))))
    assert stale(*marks) == in_order(LIFTED + " score")
