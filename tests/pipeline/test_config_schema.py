"""The schema by which editors check the YAML files agrees with the loader that reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_from_dict, config_to_dict
from pcdistill.pipeline.config_schema import config_schema, schema_text

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = REPOSITORY / "pcdistill" / "configs" / "schema.json"
YAML_FILES = sorted(
    [*REPOSITORY.glob("configs/*.yaml"), *REPOSITORY.glob("pcdistill/configs/*.yaml")]
)
BOTH = pytest.mark.parametrize("file", YAML_FILES, ids=lambda f: str(f.relative_to(REPOSITORY)))


@pytest.fixture(scope="module")
def check():
    schema = config_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_the_stored_schema_is_that_of_the_settings():
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
        "pcdistill/configs/schema.json is stale; run `python tools/write_schema.py`"
    )


def test_there_are_files_in_both_folders():
    assert {file.parent.name for file in YAML_FILES} == {"configs"}
    assert len({file.parent for file in YAML_FILES}) == 2


@BOTH
def test_every_shipped_file_follows_the_schema(check, file):
    found = [error.message for error in check.iter_errors(yaml.safe_load(file.read_text()))]
    assert found == []


@BOTH
def test_every_shipped_file_names_the_schema_in_its_first_line(file):
    first = file.read_text().splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named, f"{file}: begins with '{first}'"
    assert (file.parent / named[1]).resolve() == SCHEMA


def test_what_a_run_writes_follows_the_schema(check):
    check.validate(config_to_dict(RunConfig()))


@pytest.mark.parametrize("text", ["", "lift:\n", "lift: {}\n", "ingest: {image_size: [3, 4]}\n"])
def test_what_the_loader_takes_the_schema_takes(check, text):
    content = yaml.safe_load(text)
    config_from_dict(content or {}, "test")
    check.validate(content)


@pytest.mark.parametrize(
    "content",
    [
        {"distil": {}},
        {"distill": {"epoch": 3}},
        {"distill": {"epochs": "many"}},
        {"distill": {"epochs": 1.5}},
        {"distill": {"epochs": True}},
        {"distill": {"epochs": None}},
        {"distill": {"students": "point"}},
        {"distill": {"students": ["points"]}},
        {"ingest": {"source": "home"}},
        {"ingest": {"image_size": [240]}},
        {"ingest": {"image_size": [240, 320, 3]}},
        {"ingest": {"depth_scale": "1e-3"}},
        {"lift": 5},
        ["lift"],
    ],
    ids=json.dumps,
)
def test_what_the_loader_refuses_the_schema_refuses(check, content):
    if isinstance(content, dict):
        with pytest.raises(ConfigError):
            config_from_dict(content, "test")
    assert not check.is_valid(content)


def test_an_editor_can_show_text_choices_and_default(check):
    lift = check.schema["properties"]["lift"]
    assert lift["additionalProperties"] is False
    assert lift["description"] == "How what teachers see is carried onto points."
    occlusion = lift["properties"]["occlusion"]
    assert occlusion["enum"] == ["auto", "depth", "mesh", "splat", "none"]
    assert occlusion["default"] == "auto"
    assert occlusion["description"].startswith("What tells that something stands before a point")
