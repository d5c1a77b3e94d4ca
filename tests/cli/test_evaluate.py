"""The command that measures files: its table, and which options go together."""

from __future__ import annotations

import json

import pytest
import torch

from pcdistill.cli import run_command
from pcdistill.scenes import write_ply


@pytest.fixture
def files(tmp_path):
    for name, labels in (("pred", [0, 0, 1, 255]), ("truth", [0, 1, 1, 1])):
        write_ply(tmp_path / f"{name}.ply", torch.eye(4, 3), labels=torch.tensor(labels))
    return str(tmp_path / "pred.ply"), str(tmp_path / "truth.ply")


def test_files_are_measured_and_the_table_printed(files, capsys):
    assert run_command(["evaluate", *files, "--label-set", "scannet20"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[-2:] for line in shown.splitlines() if line.strip()}
    assert rows["wall"] == ["50.0", "100.0"]
    assert rows["floor"] == ["33.3", "33.3"]
    assert rows["chair"] == ["-", "-"]
    assert "mIoU 41.7 %, mAcc 66.7 %, overall accuracy 50.0 %" in shown
    assert "4 points of 1 scene, 1 of them without a prediction" in shown
    assert "protocol 'every point': points without a prediction count as misses" in shown


def test_the_protocol_is_named(files, capsys):
    words = ["evaluate", *files, "--label-set", "scannet20", "--protocol", "openscene"]
    assert run_command(words) == 0
    assert "mIoU 5.0 %" in capsys.readouterr().out  # (50 + 50) / 20


def test_the_report_is_written_and_nothing_that_is_halfway_stays(files, tmp_path, capsys):
    out = tmp_path / "report"
    assert run_command(["evaluate", *files, "--label-set", "scannet20", "--out", str(out)]) == 0
    assert f"report: {out / 'evaluation.md'}" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "evaluation.md"]
    found = json.loads((out / "evaluation.json").read_text())
    assert found["miou"] == pytest.approx(125 / 3)  # (50 + 33.3) / 2
    assert found["files"][0]["predicted"]["path"] == files[0]


def test_an_interrupted_measuring_goes_on(tmp_path, capsys):
    """The damaged scene ends the first call; once it is mended only it is counted."""
    for name in ("a", "b", "c"):
        for folder in ("pred", "truth"):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_ply(
                tmp_path / folder / f"{name}.ply", torch.eye(3), labels=torch.tensor([0, 1, 1])
            )
    whole = (tmp_path / "pred" / "c.ply").read_bytes()
    (tmp_path / "pred" / "c.ply").write_bytes(whole[:-2])
    folders = [str(tmp_path / "pred"), str(tmp_path / "truth")]
    words = ["evaluate", *folders, "--label-set", "scannet20", "--out", str(tmp_path / "out")]
    assert run_command(words) == 2
    assert "c.ply" in capsys.readouterr().err
    assert not (tmp_path / "out" / "evaluation.json").exists()
    (tmp_path / "pred" / "c.ply").write_bytes(whole)
    assert run_command(words) == 0
    assert "2 of 3 scenes were counted before the interruption" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["miou"] == 100.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.ply", "b.ply"], "--label-set: is missing"),
        (["a.ply", "b.ply", "--redo", "--label-set", "scannet20"], "--redo: is for a run"),
        (["a", "b", "c"], "a: found no config.yaml of a run there"),
        (["run", "--label-set", "scannet20"], "--label-set: is for two files, got the run run"),
        (["run", "--out", "x"], "--out: is for several runs or for files, got the run run alone"),
        (["a.ply", "b.ply", "--method", "best"], "--method: is for several runs, got two files"),
        (["a.ply", "b.ply", "--jobs", "0"], "--jobs is 0, expected 1 or more"),
        (["run", "--within", "1", "--ids", "both"], "--within, --ids: is for two files"),
        (["a.ply", "b.ply", "--label-set", "scannet21"], "unknown label set 'scannet21'"),
        (["a.ply", "b.ply", "--label-set", "scannet20"], "a.ply: cannot be read"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(["evaluate", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
