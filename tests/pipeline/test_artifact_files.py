"""A file is there whole or not at all."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ArtifactError
from pcdistill.pipeline.artifact_files import (
    read_json,
    read_provenance,
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
