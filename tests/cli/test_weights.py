"""The command `weights` says what is published, what is here, and fetches only what is named."""

from __future__ import annotations

import hashlib

import pytest

from pcdistill import teachers
from pcdistill.cli.app import run_command
from pcdistill.teachers import WEIGHT_FILES
from tests.fixtures.open_clip_package import need_open_clip


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing is asked of a server."""

    def refuse(*_, **__):
        raise AssertionError("the network is used")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def said(capsys, *words: str) -> tuple[int, str, str]:
    status = run_command(["weights", *words])
    text = capsys.readouterr()
    return status, text.out, text.err


def test_list_says_of_every_entry_where_it_is_from(capsys, tmp_path):
    (tmp_path / "ViT-B-32.pt").write_bytes(b"0")
    status, text, _ = said(capsys, "list", "--folder", str(tmp_path))
    assert status == 0
    for entry in WEIGHT_FILES.values():
        assert entry.address in text
        assert entry.sha256 is None or entry.sha256 in text
    blocks = text.split("\nclip-vit-l-14-336:")
    assert "clip-vit-b-32: ViT-B-32.pt, here" in blocks[0]
    assert blocks[1].startswith(" ViT-L-14-336px.pt, not here")
    assert said(capsys, "list", "lseg")[1].startswith("lseg: demo_e200.ckpt")


def test_list_knows_models_of_open_clip_by_name(capsys, tmp_path):
    need_open_clip()
    name = "open-clip:ViT-B-16/datacomp_xl_s13b_b90k"
    status, text, _ = said(capsys, "list", name, "--folder", str(tmp_path))
    repository = "CLIP-ViT-B-16-DataComp.XL-s13B-b90K"
    assert status == 0
    assert text.startswith(f"{name}: {repository}, not here")
    assert f"hf download laion/{repository} --local-dir {tmp_path}/{repository}" in text
    status, _, told = said(capsys, "fetch", name, "--folder", str(tmp_path))
    assert status == 2
    assert "a page that a person opens" in " ".join(told.split())


def test_where_prints_the_folder_and_what_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_WEIGHTS", str(tmp_path))
    assert "nothing that a teacher" in said(capsys, "where")[1]
    (tmp_path / "demo_e200.ckpt").write_bytes(b"0")
    status, text, _ = said(capsys, "where")
    assert status == 0
    assert text.splitlines() == [str(tmp_path), "  lseg: demo_e200.ckpt"]


def test_verify_compares_what_is_there(capsys, tmp_path, monkeypatch):
    file = tmp_path / "ViT-B-32.pt"
    file.write_bytes(b"0")
    (tmp_path / "seem_focall_v0.pt").write_bytes(b"1")
    status, text, _ = said(capsys, "verify", "--folder", str(tmp_path))
    assert status == 1
    assert f"{file}: has {hashlib.sha256(b'0').hexdigest()} as SHA-256, expected 40d36571" in text
    assert "seem: has no published checksum to compare, revision 6b86b273ff34" in text
    entry = WEIGHT_FILES["clip-vit-b-32"]._replace(sha256=hashlib.sha256(b"0").hexdigest())
    monkeypatch.setitem(teachers.WEIGHT_FILES, "clip-vit-b-32", entry)
    status, text, _ = said(capsys, "verify", "clip-vit-b-32", "--folder", str(tmp_path))
    assert status == 0
    assert "clip-vit-b-32: is as published" in text
    status, _, text = said(capsys, "verify", "lseg", "--folder", str(tmp_path))
    assert status == 2
    assert "the weights 'lseg' are not there" in text


def test_a_folder_is_listed_with_how_to_get_it_and_verified_whole(capsys, tmp_path):
    place, known = ("--folder", str(tmp_path)), WEIGHT_FILES["florence-2"]
    text = said(capsys, "list", "florence-2", *place)[1]
    folder = tmp_path / known.file_name
    assert f"hf download florence-community/Florence-2-base --local-dir {folder}" in text
    assert "Florence-2-base, not here" in text
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "processor_config.json"):
        (folder / name).write_text("{}")
    text = said(capsys, "list", "florence-2", *place)[1]
    assert "Florence-2-base, not complete, without tokenizer*.json" in text
    status, text, _ = said(capsys, "verify", "florence-2", *place)
    assert status == 1
    assert "has no tokenizer*.json" in text
    status, _, text = said(capsys, "fetch", "florence-2", *place)
    assert status == 2
    assert "has no tokenizer*.json" in " ".join(text.split())
    (folder / "tokenizer.json").write_text("{}")
    status, text, _ = said(capsys, "verify", "florence-2", *place)
    assert status == 0
    assert "florence-2: has no published checksum to compare, revision" in text


def test_fetch_wants_names_and_is_offline_in_one_sentence(capsys, tmp_path, monkeypatch):
    status, _, text = said(capsys, "fetch", "--folder", str(tmp_path))
    assert status == 2
    assert "wants the names of weights" in text
    monkeypatch.undo()
    entry = WEIGHT_FILES["seem"]._replace(address="http://127.0.0.1:9/seem")
    monkeypatch.setitem(teachers.WEIGHT_FILES, "seem", entry)
    status, _, text = said(capsys, "fetch", "seem", "--folder", str(tmp_path))
    assert status == 2
    assert "http://127.0.0.1:9/seem cannot be reached" in " ".join(text.split())
    assert "Traceback" not in text


def test_a_misspelt_name_is_suggested(capsys):
    status, _, text = said(capsys, "list", "lsegg")
    assert status == 2
    assert "unknown weights 'lsegg'; did you mean 'lseg'?" in text
