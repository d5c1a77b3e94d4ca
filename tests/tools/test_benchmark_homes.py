"""The page of the homes: its differences, what it says first, and what it keeps."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from pcdistill.errors import ConfigError
from pcdistill.evaluation import ConfusionMatrix, confusion_cells, get_protocol
from pcdistill.pipeline import Workspace
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import load_config
from tests.conftest import REPOSITORY
from tools.benchmarks import homes, homes_page
from tools.benchmarks.homes_numbers import Numbers, Seed
from tools.benchmarks.homes_page import EARLIER, earlier_numbers, results_page

CLASSES = ("bed", "door", "lamp")
VOCABULARY = ("lamp", "bed", "door")
PROTOCOL = get_protocol("every point", "toy", CLASSES)
RIGHT = {
    "teacher:demo-dense": 0.3,
    "teacher:demo-masks": 0.35,
    "average": 0.5,
    "linear": 0.52,
    "binary": 0.55,
    "shuffled": 0.54,
    "fused": 0.62,
    "oracle": 0.66,
    "fused+voxels": 0.64,
    "fused+superpoints": 0.75,
    "student:point": 0.6,
    "student:superpoint": 0.7,
}
"""How often each row is right, where everything comes out."""
SEEDS, HOMES = 3, 4
TAUGHT = {"demo-dense": {"bed": (0.9, 0.8), "door": (0.2, 0.1)}, "demo-masks": {"lamp": (0.5, 0.4)}}
"""Teacher -> word -> measured and true capability."""


def counted(right: float, seed: int, home: int, row: str) -> torch.Tensor:
    """(4, 3) of one home: the truth is the same for every row."""
    truth = np.random.default_rng((seed, home)).integers(300, 600, 3)
    generator = np.random.default_rng((seed, home, len(row)))
    found = np.zeros((4, 3), dtype=np.int64)
    for category, points in enumerate(truth):
        odds = np.full(4, (1 - right) / 3)
        odds[category] = right
        found[:, category] = generator.multinomial(points, odds)
    return torch.from_numpy(found)


def result(row: str, right: float, seed: int) -> dict:
    homes = {f"home-{home}": counted(right, seed, home, row) for home in range(HOMES)}
    matrix = ConfusionMatrix(3)
    matrix.counts = torch.stack(list(homes.values())).sum(dim=0)
    iou = [100 * value for value in matrix.iou("miss").tolist()]
    cells = {name: confusion_cells(counts) for name, counts in homes.items()}
    return {
        "name": row,
        "miou": statistics.mean(iou),
        "macc": 50.0,
        "per_class": dict(zip(CLASSES, iou, strict=True)),
        "protocol": "all points; one run",
        "scenes": list(homes),
        "confusion": [cells, cells] if row == "shuffled" else [cells],
    }


def capability(shift: float = 0.0) -> dict:
    """Of words that a teacher was not taught, what would spoil the order."""
    return {
        "teachers": {
            teacher: {
                "taught": list(known),
                "measured": {w: known[w][0] + shift if w in known else 0.05 for w in VOCABULARY},
                "true": {w: known[w][1] if w in known else 0.95 for w in VOCABULARY},
            }
            for teacher, known in TAUGHT.items()
        }
    }


def numbers(tables: list[dict] | None = None, **right: float) -> Numbers:
    """Several seeds; `right` changes how often a row is right (student_superpoint, say)."""
    known = {**RIGHT, **{name.replace("_", ":", 1): value for name, value in right.items()}}
    tables = tables or [capability()] * SEEDS
    single, voted = (
        [
            Seed(
                {row: result(row, fraction + more, s) for row, fraction in known.items()}, tables[s]
            )
            for s in range(SEEDS)
        ]
        for more in (0.0, 0.01)
    )
    return Numbers(single, voted, 5, CLASSES, PROTOCOL, VOCABULARY)


def page_of(found: Numbers) -> str:
    return results_page(found, ["About."], ["distill.epochs=2"])


def test_the_table_has_means_and_deviations_over_the_seeds():
    found = numbers()
    page = page_of(found)
    for name in RIGHT:
        values = [seed.rows[name]["miou"] for seed in found.single]
        cell = f"{statistics.mean(values):.1f}** ± {statistics.stdev(values):.1f}"
        cell = cell if name == "fused+superpoints" else cell.replace("*", "")
        assert re.search(rf"\| {re.escape(name)} \| \*?\*?{re.escape(cell)} \| 50.0 ± 0.0", page)
    for name in ("fused+voxels", "student:point"):
        voted = statistics.mean(seed.rows[name]["miou"] for seed in found.voted)
        assert re.search(rf"\| {re.escape(name)} \|.* \| {voted:.1f} ± \d\.\d \|\n", page)
    assert re.search(r"\| fused \|.* \| - \|\n", page)


def test_every_difference_is_that_of_the_means_and_has_an_interval():
    found = numbers()
    page = page_of(found)
    wanted = [
        *(("average", teacher) for teacher in ("teacher:demo-dense", "teacher:demo-masks")),
        *(("fused", other) for other in ("average", "linear", "binary", "shuffled")),
        ("oracle", "fused"),
    ]
    assert [(one.first, one.second) for one in found.fusion] == wanted
    for one in found.fusion:
        apart = [s.rows[one.first]["miou"] - s.rows[one.second]["miou"] for s in found.single]
        assert one.apart.difference == pytest.approx(statistics.mean(apart), abs=1e-9)
        assert (one.apart.scenes, one.apart.seeds) == (SEEDS * HOMES, SEEDS)
        assert f"{one.second} ({one.apart})" in page
    for voted, seeds in ((False, found.single), (True, found.voted)):
        student = found.student("student:superpoint", voted=voted)
        assert [one.second for one in student] == ["fused+voxels", "fused", "fused+superpoints"]
        for one in student:
            apart = [s.rows[one.first]["miou"] - s.rows[one.second]["miou"] for s in seeds]
            assert one.apart.difference == pytest.approx(statistics.mean(apart), abs=1e-9)
            assert f"{one.apart}, {one.apart.verdict}" in page
    assert "over 3 seeds and their 12 homes" in page


def test_the_best_student_is_the_one_with_the_highest_mean_with_several_cuts():
    assert numbers().best_student == "student:superpoint"
    assert numbers(student_point=0.9).best_student == "student:point"


def test_the_rank_correlation_is_over_the_taught_words_of_all_teachers_and_seeds():
    shifts = (0.0, 0.05, -0.45)
    found = numbers([capability(shift) for shift in shifts])
    pairs = [(m + s, t) for s in shifts for known in TAUGHT.values() for m, t in known.values()]
    agreement = found.agreement()
    assert agreement.classes == len(pairs) == 9
    assert agreement.spearman == pytest.approx(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    assert agreement.spearman < 1
    assert found.agreement_of_means == (1.0, 3, None)
    page = page_of(found)
    low, high = agreement.interval
    told = f"{agreement.spearman:.2f} [{low:.2f}, {high:.2f}] (n = 9)"
    assert f"together: {told}; seed by seed 1.00, 1.00, 1.00" in page


def test_what_comes_out_is_said_to():
    found = numbers()
    assert found.shortfalls == []
    assert page_of(found).splitlines()[2].startswith("What was to come out did: each teacher < av")


def test_fused_is_held_against_the_best_of_each_seed():
    found = numbers()
    others = (*found.teachers, "average", "linear")
    for seed, ahead in zip(found.single, found.fused_ahead, strict=True):
        known = [seed.rows[name]["miou"] for name in others]
        assert ahead == pytest.approx(seed.rows["fused"]["miou"] - max(known))
    told = ", ".join(f"{value:+.1f}" for value in found.fused_ahead)
    assert f"the best of teachers, average and linear: {told}." in page_of(found)
    assert found.summary()["fused_ahead_of_best"] == found.fused_ahead


def test_a_single_seed_on_which_it_is_behind_is_told():
    found = numbers()
    found.single[1].rows["fused"]["miou"] = found.single[1].rows["average"]["miou"] - 2
    (missed,) = [m for m in found.shortfalls if "on 1 of 3 seeds" in m]
    assert missed == (
        "fused is behind the best of teachers, average and linear on 1 of 3 seeds (the least "
        f"difference is {found.fused_ahead[1]:+.1f})"
    )
    assert found.fused_ahead[1] <= -2


def unordered() -> list[dict]:
    table = capability()
    table["teachers"]["demo-dense"]["measured"].update(bed=0.2, door=0.9)
    return [table] * SEEDS


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"teacher_demo-dense": 0.6}, r"average is not ahead of teacher:demo-dense: -\d"),
        ({"average": 0.7}, r"fused is not ahead of average: -\d"),
        ({"shuffled": 0.8}, r"fused is not ahead of shuffled: -\d"),
        ({"shuffled": 0.62}, r"fused is not ahead of shuffled: .* the homes cannot tell from 0\)"),
        (
            {"student_superpoint": 0.5, "student_point": 0.4},
            r"student:superpoint does not reach fused\+voxels: -\d.*, both with one cut",
        ),
        (
            {"student_superpoint": 0.5, "student_point": 0.4},
            r"student:superpoint does not reach fused\+voxels: -\d.*, both with 5 cuts",
        ),
        ({"tables": unordered()}, r"the rank correlation .* is -1.00 \(n = 9\), less than 0.7"),
    ],
)
def test_what_does_not_come_out_is_said_first(changed, sentence):
    found = numbers(**changed)
    assert any(re.match(sentence, missed) for missed in found.shortfalls)
    before = page_of(found).split("About.")[0]
    assert re.search(f"\n- {sentence}", before)
    assert "What was to come out did" not in before
    assert found.summary()["not_reached"] == found.shortfalls


def test_the_ensemble_is_held_against_the_student_that_it_goes_on_from(tmp_path, monkeypatch):
    """And what the study found is told again."""
    study = tmp_path / "temporal_ensemble.md"
    study.write_text("# Title\n\n- ahead of `without`: one (+1.0)\n- 2 cores\n")
    monkeypatch.setattr(homes_page, "STUDY", study)
    assert homes_page.STUDY_HEADING not in page_of(numbers())
    monkeypatch.setitem(RIGHT, "student:superpoint+ensemble", 0.5)
    page = page_of(numbers())
    told = page.partition(homes_page.STUDY_HEADING)[2]
    found = re.search(r"ensemble less student:superpoint is (-\d.*), behind with one cut", told)
    assert found is not None
    assert "- ahead of `without`: one (+1.0)" in told
    assert "2 cores" not in told


def test_what_is_printed_is_json():
    found = json.loads(json.dumps(numbers().summary(), allow_nan=False))
    assert found["spearman_n"] == 9
    assert len(found["differences"]) == 7 + 3
    assert set(found["miou"]) == set(found["miou_5_cuts"]) == set(RIGHT)


def test_classes_without_a_true_point_have_no_number():
    found = numbers()
    for seed in (*found.single, *found.voted):
        for row in seed.rows.values():
            row["per_class"]["lamp"] = None
    assert re.search(r"\n\| lamp \|( - \|)+\n", page_of(found))
    some = copy.deepcopy(found)
    some.single[0].rows["fused"]["per_class"]["lamp"] = 40.0
    assert some.row("fused").per_class["lamp"] == 40.0


def test_what_the_page_reported_before_is_kept(tmp_path):
    path = tmp_path / "results.md"
    assert earlier_numbers(path) == ""
    path.write_text(f"# Old\n\nnow 9\n\n{EARLIER}\n\n### May\n\n38.6\n")
    kept = earlier_numbers(path)
    path.write_text(page_of(numbers()) + kept)
    assert path.read_text().endswith(f"\n\n{EARLIER}\n\n### May\n\n38.6\n")
    assert earlier_numbers(path) == kept
    path.write_text("# Old\n\n38.6\n")
    with pytest.raises(ConfigError, match=f"no line '{EARLIER}', so that its numbers would be"):
        earlier_numbers(path)


def test_the_page_of_the_documentation_can_be_written_again():
    assert earlier_numbers(homes.DOCS / "results.md")


def test_every_seed_is_measured_with_several_cuts_and_with_one(tmp_path, monkeypatch):
    asked = []
    known = numbers()

    def measured(workspace: Path, seed: int, changes: list[str]) -> Seed:
        asked.append((workspace.name, seed, changes))
        return (known.voted if "evaluate.votes=5" in changes else known.single)[seed - 7]

    words = SimpleNamespace(vocabulary=VOCABULARY, label_set=SimpleNamespace(names=CLASSES))
    left = SimpleNamespace(words=words, protocol=PROTOCOL, workspace=Workspace(tmp_path))
    opened = SimpleNamespace(artifacts=left)
    monkeypatch.setattr(homes, "measure", measured)
    monkeypatch.setattr(homes, "open_run", lambda workspace: opened)
    monkeypatch.setattr(homes, "load_workspace_config", lambda workspace: RunConfig())
    monkeypatch.setattr(homes, "SETTINGS", tmp_path / "homes.yaml")
    homes.SETTINGS.write_text("run: {}\n")
    parser = argparse.ArgumentParser()
    homes.add_arguments(parser)
    write = tmp_path / "page.md"
    given = ["--first-seed", "7", "--seeds", str(SEEDS), "--set", "distill.epochs=3"]
    given += ["--write", str(write)]
    found = homes.run(parser.parse_args(given))
    for seed in range(7, 7 + SEEDS):
        cuts = [
            changes for name, number, changes in asked if (name, number) == (f"seed{seed}", seed)
        ]
        assert cuts == [["distill.epochs=3", f"evaluate.votes={votes}"] for votes in (5, 1)]
    assert len(asked) == 2 * SEEDS
    assert found["miou"]["fused"] == known.row("fused").miou
    page = write.read_text()
    assert "| fused+voxels |" in page
    assert f"before any home of seeds 7 to {6 + SEEDS} was scanned" in page
    assert hashlib.sha256(b"run: {}\n").hexdigest()[:16] in page


def test_the_frozen_settings_are_a_run_on_test_homes():
    config = load_config(homes.SETTINGS)
    assert config.ingest.source == "homes"
    assert config.ingest.homes == "test"
    assert config.ingest.validation >= 4
    assert config.evaluate.votes == 1


def test_the_demo_never_looks_at_a_test_home():
    assert load_config(REPOSITORY / "configs" / "demo.yaml").ingest.homes == "development"
