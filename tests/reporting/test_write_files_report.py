"""Report of measured label files: what made the numbers stands beside them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from pcdistill.evaluation import confusion_counts
from pcdistill.inference import evaluate_files
from pcdistill.reporting import FilesReport, write_files_report
from pcdistill.scenes import load_label_set

SET = load_label_set("scannet20")


@pytest.fixture
def report(tmp_path) -> FilesReport:
    chance = np.random.default_rng(0)
    for folder in ("pre_d", "true"):
        (tmp_path / folder).mkdir()
        for name in ("one", "two"):
            labels = chance.integers(0, 4, 200)
            labels[:20] = 255
            np.savez(tmp_path / folder / f"{name}.npz", labels=labels)
    pairs = []
    result = evaluate_files(
        tmp_path / "pre_d", tmp_path / "true", SET, "openscene", measured=pairs.append
    )
    return FilesReport(result, SET, "openscene", None, "none", tuple(pairs))


def test_the_json_has_the_numbers_and_what_they_are_of(report, tmp_path):
    write_files_report(tmp_path / "out", report)
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["miou"] == report.result.miou
    assert found["per_class"] == report.result.per_class
    assert found["interval"] == list(report.result.interval)
    assert found["scene_miou"] == list(report.result.scene_miou)
    assert found["rules"]["unseen"] == "openscene"
    assert (found["rules"]["name"], found["rules"]["mean_over"]) == ("openscene", "all")
    assert "votes" not in found["rules"]  # how the labels came about is not known
    assert (found["label_set"], found["classes"]) == ("scannet20", list(SET.names))
    assert set(found["software"]) == {"pcdistill", "torch", "numpy"}
    for one in found["files"]:
        for role in ("predicted", "true"):
            file = tmp_path / ("pre_d" if role == "predicted" else "true") / f"{one['scene']}.npz"
            assert one[role] == {
                "path": str(file),
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
    cells = found["confusion"][0]
    assert list(cells) == found["scenes"] == ["one", "two"]
    counts = [confusion_counts(cells[scene], 20) for scene in found["scenes"]]
    assert torch.equal(sum(counts)[:20], report.result.confusion)
    assert int(sum(counts).sum()) == found["points"]


def test_the_markdown_has_the_tables(report, tmp_path):
    page = write_files_report(tmp_path / "out", report)
    shown = page.read_text()
    assert r"pre\_d measured against" in shown.splitlines()[0]
    assert f"| wall | {report.result.per_class['wall']:.1f} |" in shown
    assert "| chair | –" in shown or "| door | –" in shown
    assert f"| two | {report.result.scene_miou[1]:.1f} |" in shown
    assert "Protocol 'openscene'" in shown
    assert "of 2 scenes" in shown
