"""Files of weights are found where a run says, and missed in one sentence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pcdistill.errors import ConfigError
from pcdistill.teachers import WEIGHT_FILES, WeightStore, how_to_get


def test_a_file_is_found_in_the_folder_or_where_a_run_says(tmp_path):
    (tmp_path / "demo_e200.ckpt").write_bytes(b"a")
    (tmp_path / "mine.pt").write_bytes(b"b")
    store = WeightStore(tmp_path, {"seem": tmp_path / "mine.pt"})
    assert store.find("lseg") == tmp_path / "demo_e200.ckpt"
    assert store.find("seem") == tmp_path / "mine.pt"


def test_a_missing_file_gives_one_sentence_with_address_and_folder(tmp_path):
    for name, known in WEIGHT_FILES.items():
        with pytest.raises(ConfigError) as caught:
            WeightStore(tmp_path).find(name)
        message = str(caught.value)
        assert known.address in message
        assert str(tmp_path / known.file_name) in message
        assert f"run.weights.{name}" in message
        assert ("weights fetch" in message) == known.direct
        assert "\n" not in message


def test_a_named_file_that_is_not_there_is_refused_although_the_folder_has_one(tmp_path):
    (tmp_path / "demo_e200.ckpt").write_bytes(b"a")
    with pytest.raises(ConfigError, match="run.weights.lseg is .*/none.ckpt, which does not exist"):
        WeightStore(tmp_path, {"lseg": tmp_path / "none.ckpt"}).find("lseg")


def test_unknown_names_are_suggested():
    with pytest.raises(ConfigError, match="unknown weights 'lsegg'; did you mean 'lseg'"):
        WeightStore(given={"lsegg": "x"})
    with pytest.raises(ConfigError, match="unknown weights 'sem'"):
        WeightStore().find("sem")


def test_the_folder_is_that_of_the_environment_else_of_the_user(tmp_path, monkeypatch):
    store = WeightStore()
    monkeypatch.setenv("PCDISTILL_WEIGHTS", str(tmp_path))
    assert store.folder == tmp_path
    monkeypatch.delenv("PCDISTILL_WEIGHTS")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store.folder == tmp_path / "home" / ".cache" / "pcdistill" / "weights"
    assert WeightStore("~/mine").folder == tmp_path / "home" / "mine"


def test_the_revision_is_that_of_the_content(tmp_path):
    file = tmp_path / "demo_e200.ckpt"
    store = WeightStore(tmp_path)
    file.write_bytes(b"one")
    assert store.revision("lseg") == hashlib.sha256(b"one").hexdigest()[:12]
    file.write_bytes(b"other")
    assert store.revision("lseg") == hashlib.sha256(b"other").hexdigest()[:12]
    provenance = store.provenance("lseg")
    assert provenance["weights"] == "demo_e200.ckpt"
    assert provenance["licence"] == "MIT"


def write_folder(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")


MODEL = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json")


def test_the_revision_of_a_folder_follows_every_file_in_it_and_its_name(tmp_path):
    folder = tmp_path / "exported_model"
    write_folder(folder, *WEIGHT_FILES["openseg"].parts, "assets/a")
    store = WeightStore(tmp_path)
    before = store.revision("openseg")
    assert len(before) == 12
    (folder / "assets" / "a").write_text("another")
    changed = store.revision("openseg")
    (folder / "assets" / "a").rename(folder / "assets" / "b")
    assert len({before, changed, store.revision("openseg")}) == 3


def test_the_revision_of_a_folder_of_the_hub_is_that_of_what_is_read(tmp_path):
    folder = tmp_path / "Florence-2-base"
    write_folder(folder, *MODEL)
    store = WeightStore(tmp_path)
    before = store.revision("florence-2")
    write_folder(folder, "README.md", "pytorch_model.bin", ".cache/huggingface/a.json")
    assert store.revision("florence-2") == before
    (folder / "tokenizer.json").write_text("other words")
    assert store.revision("florence-2") != before


def test_a_folder_is_found_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "mine"
    write_folder(folder, *MODEL)
    store = WeightStore(tmp_path, {"florence-2": folder})
    assert store.find("florence-2") == folder
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"mine: has no \*.safetensors, expected .*hf download"):
        store.find("florence-2")
    (tmp_path / "model.safetensors").write_bytes(b"0")
    with pytest.raises(ConfigError, match=r"model.safetensors: is no folder, expected the folder"):
        WeightStore(tmp_path, {"florence-2": tmp_path / "model.safetensors"}).find("florence-2")


def test_a_folder_that_must_be_accepted_first_says_so(tmp_path):
    known = WEIGHT_FILES["florence-2"]
    assert "account" not in how_to_get(known, tmp_path)
    assert "an account that has accepted its terms" in how_to_get(
        known._replace(gated=True), tmp_path
    )


def test_the_table_says_only_what_can_be_true():
    for name, entry in WEIGHT_FILES.items():
        assert entry.name == name
        assert Path(entry.file_name).name == entry.file_name
        assert entry.sha256 is None or len(entry.sha256) == 64
        assert not entry.direct or entry.address.startswith("https://")
        assert not entry.direct or not any("*" in part for part in entry.parts)
