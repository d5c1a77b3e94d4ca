"""Rows that others are compared with, on two small scans whose numbers are counted by hand."""

from __future__ import annotations

import json
import math
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcdistill.artifacts import split_scenes
from pcdistill.artifacts.predictions import load_predictions, load_result
from pcdistill.errors import ConfigError
from pcdistill.inference.methods import (
    CAPABILITY,
    ORACLE,
    SHUFFLED,
    VOXELS,
)
from pcdistill.inference.predictor import DRAWS
from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline import Dependency
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.pretrained import CheckpointSource, PretrainedStudent, StudentInputSpec
from pcdistill.pipeline.result_files import result_confusion
from pcdistill.scenes import Scene
from pcdistill.stages.evaluate import EvaluateStage
from tests.fixtures.runs import finished_run, predictor
from tests.stages.followed import alike
from tests.stages.test_evaluate_by_hand import labels_of, measured, seen_by_any
from tests.stages.test_fuse_by_hand import by_hand
from tests.stages.toy import (
    CLASSES,
    TEACHERS,
    VOCABULARY,
    store,
    toy_labels,
    work,
    write_capability,
)
from tests.stages.toy_homes import CLUSTERS, EACH, homes_run, said, scan

SKILL = {
    "demo-masks": {"bed": 0.9, "door": 0.0, "lamp": 0.6},
    "demo-dense": {"bed": 0.0, "door": 0.35, "lamp": 0.1},
}
"""Some of it zero."""
SEED = 4
"""Of the runs; its first and last permutation give other labels."""
LABELLED = tuple(CLUSTERS)


@pytest.fixture
def run(tmp_path) -> RunContext:
    made = homes_run(
        tmp_path, run={"seed": SEED}, distill={"students": ["point"], "voxel_size": 0.25}
    )
    write_capability(made, SKILL)
    return made


def binary() -> dict:
    return {t: {word: float(SKILL[t][word] > 0) for word in SKILL[t]} for t in SKILL}


def shuffled(draw: int) -> dict:
    """The nonzero values, teacher by teacher in the order of the vocabulary, in numpy's order."""
    places = [(t, word) for t in TEACHERS for word in VOCABULARY if SKILL[t][word] > 0]
    order = np.random.default_rng((SEED, draw)).permutation(len(places))
    table = {t: dict.fromkeys(VOCABULARY, 0.0) for t in TEACHERS}
    for (teacher, word), other in zip(places, order, strict=True):
        source, its = places[other]
        table[teacher][word] = SKILL[source][its]
    return table


def true_iou(teacher: str, word: str, scans=LABELLED) -> float | None:
    """Counted one point at a time, over the labelled points that the teacher has seen."""
    hit = true = claimed = 0
    for name in scans:
        labels = scan(name).labels.tolist()
        guesses = labels_of(said(name)[teacher], len(labels))
        for point in said(name)[teacher]:
            if labels[point] == IGNORE_LABEL:
                continue
            is_word, is_said = (CLASSES[x] == word for x in (labels[point], guesses[point]))
            true, claimed, hit = true + is_word, claimed + is_said, hit + (is_word and is_said)
    return hit / (true + claimed - hit) if true else None


def known_by_the_oracle(scans=LABELLED) -> dict:
    table = {}
    for teacher in TEACHERS:
        told = {word: true_iou(teacher, word, scans) for word in VOCABULARY}
        table[teacher] = {w: SKILL[teacher][w] if v is None else v for w, v in told.items()}
    return table


def numbers_with(skill: dict, monkeypatch) -> tuple[float, float]:
    """mIoU and mAcc of fusion by a table, counted by hand."""
    monkeypatch.setattr("tests.stages.test_evaluate_by_hand.SKILL", skill)
    return measured("fused")


def test_the_rows_stand_in_the_order_of_what_they_know(run):
    assert predictor(run).methods.names == (
        *(f"teacher:{name}" for name in TEACHERS),
        *("average", "linear", "binary", "shuffled", "fused", "oracle"),
        *("fused+voxels", "fused+superpoints", "student:point"),
    )


def test_with_one_teacher_there_is_nothing_to_weigh(tmp_path):
    alone = homes_run(tmp_path, run={"teachers": ["demo-masks"]}, distill={"students": ["point"]})
    assert predictor(alone).methods.names == (
        *("teacher:demo-masks", "fused", "fused+voxels", "fused+superpoints", "student:point"),
    )
    features, seen = predictor(alone).features("fused", LABELLED[0])
    expected, known = predictor(alone).features("teacher:demo-masks", LABELLED[0])
    assert torch.equal(seen, known)
    assert torch.equal(features, expected)


@pytest.mark.parametrize(
    ("row", "skill"), [("binary", binary()), ("oracle", known_by_the_oracle()), ("fused", SKILL)]
)
def test_a_row_fuses_by_the_table_of_its_name(run, monkeypatch, row, skill):
    work(EvaluateStage, run, row)
    (table,) = predictor(run).capabilities(row, LABELLED)
    assert alike(table.tolist(), [[skill[t][w] for w in VOCABULARY] for t in TEACHERS])
    for name in LABELLED:
        features, seen = predictor(run).features(row, name)
        expected = by_hand(said(name), skill=skill, points=2 * EACH)
        assert seen.nonzero()[:, 0].tolist() == sorted(expected)
        assert alike(features[seen].tolist(), [expected[point] for point in sorted(expected)])
    found = load_result(run.workspace, row)
    assert (found["miou"], found["macc"]) == pytest.approx(numbers_with(skill, monkeypatch))


def test_the_tables_give_different_features():
    """Otherwise the tests above could not tell one row from another."""
    tables = [SKILL, binary(), known_by_the_oracle(), shuffled(1), shuffled(4)]
    fused = [
        [by_hand(said(name), skill=table, points=2 * EACH) for name in LABELLED] for table in tables
    ]
    assert not any(alike(one, other) for i, one in enumerate(fused) for other in fused[:i])


def test_shuffled_strengths_have_the_mean_of_their_draws(run, monkeypatch):
    work(EvaluateStage, run, SHUFFLED)
    each = [numbers_with(shuffled(draw), monkeypatch) for draw in range(DRAWS)]
    found = load_result(run.workspace, SHUFFLED)
    assert found["miou"] == pytest.approx(fmean(miou for miou, _ in each))
    assert found["macc"] == pytest.approx(fmean(macc for _, macc in each))
    assert found["miou"] == pytest.approx(fmean(found["per_class"].values()))
    assert len({round(miou, 6) for miou, _ in each}) > 1
    for name in LABELLED:
        first, last = (
            by_hand(said(name), skill=shuffled(draw), points=2 * EACH) for draw in (0, DRAWS - 1)
        )
        if name == LABELLED[0]:
            assert labels_of(first, 2 * EACH) != labels_of(last, 2 * EACH)
        assert load_predictions(run.workspace, SHUFFLED, name).tolist() == labels_of(
            first, 2 * EACH
        )
        features, seen = predictor(run).features(SHUFFLED, name)
        assert alike(features[seen].tolist(), [first[point] for point in sorted(first)])


def test_another_seed_shuffles_otherwise(run, tmp_path):
    other = homes_run(tmp_path / "other", run={"seed": SEED + 1})
    write_capability(other, SKILL)
    one, two = (predictor(made).capabilities(SHUFFLED, ()) for made in (run, other))
    assert len(one) == len(two) == DRAWS
    assert not torch.equal(torch.stack(one), torch.stack(two))
    marks = [EvaluateStage(made).settings(SHUFFLED) for made in (run, other)]
    assert marks[0] != marks[1]
    assert EvaluateStage(run).settings("fused") == EvaluateStage(other).settings("fused")


@pytest.mark.parametrize("votes", [1, 3])
def test_fused_features_are_averaged_over_the_voxels_of_the_students(tmp_path, votes):
    """Cells of 0.25 m, moved as those of students are; the mean over the cuts that know one."""
    size = 0.25
    run = homes_run(tmp_path, distill={"voxel_size": size}, evaluate={"votes": votes})
    steps = votes if votes % 2 else votes + 1
    for name in LABELLED:
        points = scan(name).points.tolist()
        fused, seen = predictor(run).features("fused", name)
        expected: dict[int, list[torch.Tensor]] = {}
        for vote in range(votes):
            cells = [
                tuple(math.floor(x * (1 / size) + 16 * vote / steps) for x in p) for p in points
            ]
            for point, cell in enumerate(cells):
                inside = [p for p, its in enumerate(cells) if its == cell and seen[p]]
                if inside:
                    expected.setdefault(point, []).append(fused[inside].mean(dim=0))
        features, known = predictor(run).features(VOXELS, name)
        assert known.nonzero()[:, 0].tolist() == sorted(expected)
        assert int(known.sum()) > int(seen.sum())
        means = torch.stack([torch.stack(expected[p]).mean(dim=0) for p in sorted(expected)])
        assert alike(features[known], means)


def test_the_voxels_are_those_of_a_given_student(tmp_path):
    """What it was trained with, whatever the run says."""
    run = homes_run(tmp_path, distill={"voxel_size": 0.25})
    own = predictor(run).features(VOXELS, LABELLED[0])[0]
    before = EvaluateStage(run).settings(VOXELS)

    network = SimpleNamespace()
    run.pretrained = PretrainedStudent(
        CheckpointSource(tmp_path, ""), network, StudentInputSpec(0.6, "color"), {}
    )
    assert not torch.equal(predictor(run).features(VOXELS, LABELLED[0])[0], own)
    assert EvaluateStage(run).settings(VOXELS) != before


def test_every_scene_has_its_confusion_matrix(run):
    for row in ("teacher:demo-masks", "fused", SHUFFLED):
        work(EvaluateStage, run, row)
        found = load_result(run.workspace, row)
        counts = result_confusion(found, len(CLASSES))
        assert counts.shape == (len(LABELLED), DRAWS if row == SHUFFLED else 1, 4, 3)
        for number, name in enumerate(LABELLED):
            labels, guesses = (
                scan(name).labels.tolist(),
                load_predictions(run.workspace, row, name).tolist(),
            )
            expected = torch.zeros(4, 3, dtype=torch.int64)
            for point in seen_by_any(name):
                if labels[point] != IGNORE_LABEL:
                    guess = guesses[point] if guesses[point] >= 0 else 3
                    expected[guess, labels[point]] += 1
            assert torch.equal(counts[number, 0], expected)


def test_what_is_true_of_the_teachers_stands_beside_what_was_measured(run):
    said_so = work(EvaluateStage, run, CAPABILITY)
    found = json.loads(run.workspace.true_capability.read_text())
    pairs = []
    for teacher in TEACHERS:
        table = found["teachers"][teacher]
        assert table["measured"] == pytest.approx(SKILL[teacher])
        told = {word: true_iou(teacher, word) for word in VOCABULARY}
        assert table["true"] == pytest.approx(told)
        assert table["taught"] is None
        known = [w for w in VOCABULARY if told[w] is not None and (SKILL[teacher][w] or told[w])]
        pairs += [(SKILL[teacher][word], told[word]) for word in known]
    assert found["classes"] == len(pairs)
    assert found["spearman"] == pytest.approx(rank_correlation(pairs))
    assert said_so == found["sentence"]
    assert "demo-masks and demo-dense, which do not say" in said_so


def rank_correlation(pairs) -> float:
    """Pearson's correlation of mean ranks."""
    columns = list(zip(*pairs, strict=True))
    ranks = [
        [fmean(i for i, v in enumerate(sorted(column)) if v == value) for value in column]
        for column in columns
    ]
    return float(np.corrcoef(ranks)[0, 1])


def test_only_taught_classes_are_compared_where_teachers_say_them(run):
    taught = {"demo-masks": ["bed", "lamp"], "demo-dense": ["door"]}
    write_capability(run, SKILL, taught)
    said_so = work(EvaluateStage, run, CAPABILITY)
    found = json.loads(run.workspace.true_capability.read_text())
    pairs = [(SKILL[t][w], true_iou(t, w)) for t, words in taught.items() for w in words]
    assert found["classes"] == len(pairs) == 3
    assert found["spearman"] == pytest.approx(rank_correlation(pairs))
    assert "3 taught classes of all teachers together" in said_so
    assert "not say" not in said_so


def test_a_word_may_be_that_of_a_prompt(run):
    """Two words ask for one class, whose points each of them finds; a third stands for no class."""
    run.label_set = toy_labels(
        names=("furniture", "door", "other"),
        prompt_names=("bed", "Lamp", "door"),
        mapping=torch.tensor([0, 0, 1]),
    )
    labels = {}
    for name in LABELLED:
        one = scan(name)
        kinds = torch.tensor([0, 1, 0])  # of bed, door, lamp
        labels[name] = torch.where(one.labels < 0, one.labels, kinds[one.labels])
        store(run, Scene(name, one.points, one.colors, one.normals, labels=labels[name]))
    (table,) = predictor(run).capabilities(ORACLE, LABELLED)
    lamp, bed, door = table[0].tolist()
    assert lamp == bed
    hit = total = 0
    for name in LABELLED:
        for point, feature in said(name)["demo-masks"].items():
            if labels[name][point] >= 0:
                is_true, is_said = labels[name][point] == 0, max(feature) != feature[1]
                hit, total = hit + bool(is_true and is_said), total + bool(is_true or is_said)
    assert bed == pytest.approx(hit / total)
    assert door == pytest.approx(0.0)


def test_a_word_that_stands_for_no_class_is_a_wrong_guess(run):
    """Points of beds that are called beds are no doors, although nobody labels beds by name."""
    run.label_set = toy_labels(names=("bunk", "door", "light"), prompt_names=("bunk", "door", "x"))
    (table,) = predictor(run).capabilities(ORACLE, LABELLED)
    for number, teacher in enumerate(TEACHERS):
        lamp, bed, door = table[number].tolist()
        assert (lamp, bed) == pytest.approx((SKILL[teacher]["lamp"], SKILL[teacher]["bed"]))
        assert door == pytest.approx(true_iou(teacher, "door"))


def needed(run: RunContext, method: str, scenes: tuple[str, ...]) -> tuple[Dependency, ...]:
    methods = predictor(run).methods
    return methods.dependencies(method, scenes, split_scenes(run).validation)


def test_what_the_oracle_knows_depends_on_every_measured_scene(run):
    """Questions to one scene are not answered by what was stored before another was lifted anew."""
    one = {(i.stage, i.unit) for i in needed(run, ORACLE, LABELLED[:1])}
    every = {(i.stage, i.unit) for i in needed(run, ORACLE, LABELLED)}
    assert one == every
    assert {("lift", f"demo-masks/{LABELLED[1]}"), ("score", "demo-dense")} < one
    assert not {i.unit for i in needed(run, "fused", LABELLED[:1])} & {LABELLED[1]}


def test_words_without_a_true_point_keep_what_was_measured(tmp_path):
    """The first scan has no lamp."""
    run = homes_run(tmp_path, ingest={"validation": 1})
    write_capability(run, SKILL)
    (table,) = predictor(run).capabilities(ORACLE, LABELLED[:1])
    expected = known_by_the_oracle(LABELLED[:1])
    assert alike(table.tolist(), [[expected[t][w] for w in VOCABULARY] for t in TEACHERS])
    assert [expected[t]["lamp"] for t in TEACHERS] == [0.6, 0.1]


def test_on_scans_without_labels_the_oracle_says_that_it_knows_nothing(run, tmp_path):
    for name in LABELLED:
        one = scan(name)
        store(run, Scene(name, one.points, one.colors, one.normals))
    assert "no true label names a word" in work(EvaluateStage, run, ORACLE)
    assert load_result(run.workspace, ORACLE)["miou"] is None
    for ask in (
        lambda: finished_run(run).querier.query("bed", method=ORACLE),
        lambda: finished_run(run).export(tmp_path / "x", ORACLE),
    ):
        with pytest.raises(ConfigError, match="row 'oracle' says nothing, because no validation"):
            ask()
    for row in predictor(run).methods.names:
        if not row.startswith("student"):
            work(EvaluateStage, run, row)
            assert load_result(run.workspace, row)["miou"] is None
    assert finished_run(run).best_method == "student:point"
    work(EvaluateStage, run, CAPABILITY)
    found = json.loads(run.workspace.true_capability.read_text())
    assert found["spearman"] is None
    assert set(found["teachers"]["demo-masks"]["true"].values()) == {None}


def test_the_oracle_can_be_asked_and_exported_by_its_name(run, tmp_path):
    work(EvaluateStage, run, ORACLE)
    (tmp_path / "to").mkdir()
    assert finished_run(run).querier.query("bed", method=ORACLE, draw="none").method == ORACLE
    fresh = homes_run(tmp_path, run={"seed": SEED})
    write_capability(fresh, SKILL)
    features, _ = predictor(fresh).features(ORACLE, LABELLED[0])
    (table,) = predictor(run).capabilities(ORACLE, LABELLED)
    assert torch.equal(features, predictor(run).features(ORACLE, LABELLED[0], table)[0])
