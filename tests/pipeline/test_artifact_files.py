"""A file is there whole or not at all."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pcdistill.errors import ArtifactError
from pcdistill.pipeline.artifact_files import (
    read_json,
    read_provenance,
    read_rows,
    read_shapes,
    read_tensors,
    write_tensors,
)


def test_tensors_and_provenance_come_back(tmp_path):
    path = tmp_path / "below" / "t.safetensors"
    values = {"a": torch.arange(6).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    write_tensors(path, values, {"teacher": "demo-dense", "list": [1, 2]})
    read = read_tensors(path)
    assert read.keys() == values.keys()
    assert all(torch.equal(read[key], values[key]) for key in values)
    assert read_tensors(path, ("b",)).keys() == {"b"}
    assert read_provenance(path) == {"teacher": "demo-dense", "list": [1, 2]}


@pytest.mark.parametrize("keep", [0, 5, 40])
def test_a_truncated_artefact_is_named(tmp_path, keep):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.arange(100)}, {})
    path.write_bytes(path.read_bytes()[:keep])
    for read in (read_tensors, read_provenance):
        with pytest.raises(ArtifactError, match="t.safetensors is damaged"):
            read(path)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(ArtifactError, match="none.safetensors is missing; run the stage"):
        read_tensors(tmp_path / "none.safetensors")
    with pytest.raises(ArtifactError, match="none.json is missing"):
        read_json(tmp_path / "none.json")
    write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(ArtifactError, match="lacks b"):
        read_tensors(tmp_path / "t.safetensors", ("a", "b"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ArtifactError, match="bad.json is not readable JSON"):
        read_json(tmp_path / "bad.json")


def test_an_artefact_of_a_newer_version_is_refused_and_one_without_a_version_read(tmp_path):
    path = tmp_path / "t.safetensors"
    for header in ({"pcdistill.artifact": "2"}, {"pcdistill.artifact": "x"}):
        save_file({"a": torch.zeros(2)}, path, metadata={"provenance": "{}", **header})
        for read in (
            read_tensors,
            read_provenance,
            read_shapes,
            lambda path: read_rows(path, "a", [0]),
        ):
            with pytest.raises(ArtifactError, match="which a newer pcdistill wrote, expected 1"):
                read(path)
    save_file({"a": torch.zeros(2)}, path, metadata={"provenance": "{}"})
    assert read_tensors(path).keys() == {"a"}
    assert read_provenance(path) == {}
    write_tensors(path, {"a": torch.zeros(2)}, {})
    with safe_open(path, framework="pt") as archive:
        assert archive.metadata() == {"provenance": "{}", "pcdistill.artifact": "1"}


def first_row(path):
    return read_rows(path, "a", [0])


@pytest.mark.parametrize("provenance", ["{", "[]", "3", "[" * 10_000])
def test_a_damaged_provenance_is_named(tmp_path, provenance):
    path = tmp_path / "t.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"provenance": provenance})
    with pytest.raises(ArtifactError, match=r"t.safetensors is damaged \(its provenance\)"):
        read_provenance(path)
