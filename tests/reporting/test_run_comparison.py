"""Several finished runs side by side: what is compared, what is refused, and the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from pcdistill.cli import run_command
from pcdistill.errors import ConfigError
from pcdistill.evaluation import (
    ConfusionMatrix,
    confusion_cells,
    get_protocol,
    paired_difference,
)
from pcdistill.inference import score_draws
from pcdistill.pipeline import Workspace
from pcdistill.pipeline.artifact_files import write_json
from pcdistill.reporting import compare_runs, write_comparison
from pcdistill.reporting.html_page import render_comparison
from pcdistill.reporting.write_comparison import comparison_json

CLASSES = ("bed", "door", "lamp", "wall")
SCENES = ("room-a", "room-b", "room-c", "room-d")


def counted(scene: str, right: float, seed: int, points: int = 200) -> torch.Tensor:
    """(K + 1, K) counts; the truth depends on the scene alone, not on the method."""
    generator = torch.Generator().manual_seed(SCENES.index(scene))
    labels = torch.randint(0, 3, (points,), generator=generator)
    chance = torch.Generator().manual_seed(1000 + seed)
    wrong = torch.rand(points, generator=chance) > right
    matrix = ConfusionMatrix(len(CLASSES))
    matrix.update(torch.where(wrong, (labels + 1) % 4, labels), labels)
    return matrix.counts


def measured_run(
    folder: Path,
    right: dict[str, float],
    scenes=SCENES,
    protocol: str = "standard",
    points: int = 200,
    **changes,
) -> Path:
    """A workspace with what stage evaluate wrote of each method, by how often it is right."""
    config = {"run": {"teachers": ["demo-dense", "demo-masks"], "title": f"about {folder.name}"}}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rules = get_protocol(protocol, "toy", CLASSES)
    for seed, (method, odds) in enumerate(right.items()):
        counts = {name: counted(name, odds, seed, points) for name in scenes}
        result = {
            "name": method,
            **score_draws([[one] for one in counts.values()], CLASSES, rules, {}),
            "scenes": list(scenes),
            "rules": rules.facts(),
            "label_set": "toy",
            "classes": list(CLASSES),
            "class_groups": [],
            "prompts": [f"a {name}" for name in CLASSES],
            "teachers": {"demo-dense": "1a2b", "demo-masks": None},
            "text_space": "toy",
            "software": {"pcdistill": "0", "torch": "2"},
            "confusion": [{name: confusion_cells(one) for name, one in counts.items()}],
        }
        write_json(Workspace(folder).result(method), {**result, **changes})
    return folder


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path, Path]:
    return (
        measured_run(tmp_path / "one", {"fused": 0.9, "average": 0.5, "student:superpoint": 0.6}),
        measured_run(tmp_path / "two", {"fused": 0.4, "student:superpoint": 0.7}, SCENES[1:]),
        measured_run(tmp_path / "three", {"average": 0.6, "fused": 0.8}, SCENES[:3]),
    )


def test_runs_are_compared_on_what_all_of_them_measured(runs):
    found = compare_runs(runs)
    assert found.scenes == SCENES[1:3]
    assert found.others == (2, 1, 1)
    assert [one.name for one in found.methods] == ["fused", "best"]
    assert found.methods[1].methods == ("fused", "student:superpoint", "fused")
    fused = found.methods[0]
    one, two = (
        torch.stack([counted(name, odds, 0) for name in SCENES[1:3]]) for odds in (0.9, 0.4)
    )
    expected = paired_difference(two[None, :], one[None, :])
    assert fused.differences[0].difference == pytest.approx(expected.difference)
    assert fused.differences[0].difference < -20
    assert fused.differences[0].p_value == expected.p_value
    whole = ConfusionMatrix.from_counts(one.sum(dim=0))
    assert fused.scores[0]["miou"] == pytest.approx(100 * whole.mean_iou("miss", "present"))
    assert torch.equal(fused.confusions[0], whole.counts)


def test_one_method_may_be_named(runs):
    assert [one.name for one in compare_runs(runs[:2], "student:superpoint").methods] == [
        "student:superpoint"
    ]
    with pytest.raises(ConfigError, match="--method is 'average', which not all of"):
        compare_runs(runs, "average")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": "per scene"}, "measured with average 'per scene', expected 'global' as in"),
        ({"label_set": "other"}, "measured with label_set 'other', expected 'toy'"),
        ({"classes": ["a", "b", "c", "d"]}, "the classes of 'fused' are not those of"),
        ({"points": 150}, "scored 150 points of room-b for 'fused', expected the same 200 as"),
        ({"rules": None}, None),
        ({"miou": None}, "nothing was measured there"),
        ({"scenes": SCENES[:1]}, "have no measured scene in common"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(tmp_path, changes, said):
    one = measured_run(tmp_path / "one", {"fused": 0.9}, SCENES[1:])
    two = measured_run(tmp_path / "two", {"fused": 0.9}, **changes)
    if said is None:  # of an older version
        path = Workspace(two).result("fused")
        old = {k: v for k, v in json.loads(path.read_text()).items() if k != "rules"}
        write_json(path, old)
        said = "'fused' was measured by an older version"
    with pytest.raises(ConfigError, match=said) as caught:
        compare_runs([one, two])
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)  # what to do


def test_a_run_is_not_compared_with_itself(runs):
    with pytest.raises(ConfigError, match="is named twice"):
        compare_runs([runs[0], runs[0]])


def test_the_files_have_every_number_and_what_made_it(runs, tmp_path):
    compared = compare_runs(runs)
    page = write_comparison(tmp_path / "out", compared)
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert stored == json.loads(json.dumps(comparison_json(compared)))
    assert stored["rules"]["name"] == "standard"
    assert [run["scenes_left_out"] for run in stored["runs"]] == [2, 1, 1]
    assert stored["runs"][0]["teachers"] == {"demo-dense": "1a2b", "demo-masks": None}
    best = stored["methods"][-1]
    assert best["runs"][1]["method"] == "student:superpoint"
    assert best["against_the_first"][0]["verdict"] in ("behind", "no difference")
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    miou = compared.methods[0].scores[1]["miou"]
    assert f"| fused | {runs[1]} | {miou:.1f} |".replace("_", "\\_") in markdown
    text = page.read_text()
    for words in ("3 runs side by side", "The best of each run", "door"):
        assert words in text
    assert text.count("confusion matrix of") == 3
    assert f"{miou:.1f}" in text
    assert "<script" not in text
    assert "http" not in text


def test_names_of_others_are_text_on_the_page(tmp_path):
    hostile = [
        measured_run(tmp_path / f"<i>{number}", {"fused": 0.5}, text_space="<b>x</b>")
        for number in range(2)
    ]
    text = render_comparison(compare_runs(hostile))
    assert "<i>" not in text.replace("<i style", "")
    assert "<b>x" not in text
    assert "&lt;b&gt;x" in text


def test_the_command_prints_tables_and_writes_the_files(runs, tmp_path, capsys):
    words = ["evaluate", *map(str, runs), "--out", str(tmp_path / "out")]
    assert run_command(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Compared on the 2 scenes that all of them measured: room-b, room-c" in shown
    assert "measured: 'standard': all points" in shown
    assert "index.html" in shown
    assert (tmp_path / "out" / "index.html").is_file()
    assert run_command(["evaluate", *map(str, runs), "--label-set", "scannet20"]) == 2
    assert "--label-set: is for two files, got 3 runs" in capsys.readouterr().err
