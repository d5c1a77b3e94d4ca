"""Stage evaluate on two small scans, against labels and scores counted point by point."""

from __future__ import annotations

import json
import math
import sys
import zlib
from dataclasses import replace

import pytest
import torch
from torch import nn

from pcdistill.artifacts import HalfwayCounts, SceneCounts
from pcdistill.artifacts.predictions import load_predictions, load_result
from pcdistill.artifacts.students import LoadedStudent
from pcdistill.errors import ArtifactError
from pcdistill.evaluation import evaluate_semantic
from pcdistill.evaluation.protocols import LONG_TAIL
from pcdistill.inference import ScenePredictor
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.pretrained import StudentInputSpec
from pcdistill.pipeline.stage import Task
from pcdistill.stages.evaluate import EvaluateStage
from pcdistill.teachers import TEXT_ENCODERS
from tests.fixtures.runs import predictor
from tests.stages.followed import Outcomes, alike, follows
from tests.stages.test_fuse_by_hand import by_hand
from tests.stages.toy import CLASSES, MEASURED, TEACHERS, ToyText, nothing, toy_labels, work
from tests.stages.toy_homes import CLUSTERS, EACH, SKILL, homes_run, said, scan

VOXEL = 0.16
"""No point lies on the border of a voxel, whatever the votes here."""


class Mirror(nn.Module):
    """Says of a voxel the normal that it is shown, and nothing on the last axis."""

    def forward(self, x):
        return torch.cat([x.features[:, :3], torch.zeros(len(x), 1)], dim=1)


@pytest.fixture(autouse=True)
def student(monkeypatch):
    """The student of every run is the mirror."""
    needs = StudentInputSpec(VOXEL, "geometry")
    monkeypatch.setattr(
        sys.modules["pcdistill.artifacts.run_artifacts"],
        "load_student",
        lambda workspace, config, name: LoadedStudent(Mirror(), needs),
    )


def turned(name: str, count: int, seed: int = 0):
    """Each turn as a matrix (3, 3) and a scale: what OpenScene draws, from the scan's own seed."""
    mixed = (seed * 1_000_003 + zlib.crc32(name.encode())) % 2**63
    generator = torch.Generator().manual_seed(mixed)
    for _ in range(count):
        draw = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        limit = (math.pi / 64, math.pi / 64, math.pi)
        angles = [(2 * value - 1) * bound for value, bound in zip(draw[:3], limit, strict=True)]
        turn = torch.eye(3, dtype=torch.float64)
        for axis in torch.randperm(3, generator=generator).tolist():
            unit = torch.eye(3, dtype=torch.float64)
            crossed = torch.linalg.cross(unit[axis].expand(3, 3), unit).T  # v -> axis x v
            turn = torch.linalg.matrix_exp(angles[axis] * crossed) @ turn
        yield turn, 0.9 + 0.2 * draw[3]


def first_of_voxel(places: list[list[float]]) -> list[int]:
    """For each point the first one in its voxel; places are in voxels."""
    cells = [tuple(map(math.floor, place)) for place in places]
    first = {cell: cells.index(cell) for cell in set(cells)}
    return [first[cell] for cell in cells]


def turned_voxels(name: str, votes: int):
    """Each turn with the first point in the voxel of each point."""
    points = scan(name).points.double()
    for turn, scale in turned(name, votes):
        yield turn, first_of_voxel((scale / VOXEL * points @ turn.T).tolist())


def said_by_the_student(scene, votes: int, turns: bool = False) -> torch.Tensor:
    """(N, 4): the normal of the first point in the same voxel, mean over shifted or turned grids.

    The grid moves by the coarsest voxel, of sixteen, over the next odd number.
    """
    return torch.stack(list(looks_of_the_student(scene, votes, turns))).mean(dim=0)


def looks_of_the_student(scene, votes: int, turns: bool = False):
    """The same of each look."""
    steps = votes if votes % 2 else votes + 1
    for vote, (turn, first) in enumerate(turned_voxels(scene.name, votes)):
        said = torch.zeros(len(scene.points), 4, dtype=torch.float64)
        if turns:
            said[:, :3] = (scene.normals.double() @ turn.T)[first]
        else:
            shift = 16 * vote / steps
            places = [[x * (1 / VOXEL) + shift for x in point] for point in scene.points.tolist()]
            said[:, :3] = scene.normals[first_of_voxel(places)]
        yield said


def of_voxels(name: str, features: dict[int, list[float]], votes: int) -> dict[int, list[float]]:
    """What OpenScene scores of 2D features: those of each voxel's first point; the last run says
    who has none."""
    known, runs = features, [first for _, first in turned_voxels(name, votes)]
    return {
        point: _mean([known.get(first[point], [0.0] * 4) for first in runs])
        for point in range(len(scan(name).points))
        if runs[-1][point] in known
    }


def said_by_both(name: str, votes: int, turns: bool) -> dict[int, list[float]]:
    """Point -> mean over the looks of the fused feature or the student's, the surer of a class."""
    fused, scene = lifted_of("fused", name), scan(name)
    found: dict[int, list[list[float]]] = {}
    runs = list(turned_voxels(name, votes))
    for vote, answers in enumerate(looks_of_the_student(scene, votes, turns)):
        for point, of_student in enumerate(answers.tolist()):
            lifted = fused.get(runs[vote][1][point] if turns else point)
            surer = lifted is not None and _best_cosine(lifted) > _best_cosine(of_student)
            found.setdefault(point, []).append(lifted if surer else of_student)
    return {point: _mean(rows) for point, rows in found.items()}


def _best_cosine(feature: list[float]) -> float:
    return max(feature[:3]) / math.sqrt(sum(value * value for value in feature))


def features_of(row: str, name: str, votes: int = 1, turns: bool = False) -> dict[int, list[float]]:
    """Point -> feature, of the points that have one."""
    if row.startswith("student"):
        return dict(enumerate(said_by_the_student(scan(name), votes, turns).tolist()))
    if row.startswith("fused+student"):
        return said_by_both(name, votes, turns)
    lifted = lifted_of(row, name)
    return of_voxels(name, lifted, votes) if turns else lifted


def lifted_of(row: str, name: str) -> dict[int, list[float]]:
    """The same of what was lifted onto the points themselves."""
    scene, heard = scan(name), said(name)
    kind, _, of = row.partition(":")
    if kind == "teacher":
        return {point: list(map(float, feature)) for point, feature in heard[of].items()}
    points = sorted({point for teacher in TEACHERS for point in heard[teacher]})
    if row == "average":
        return {p: _mean([heard[t][p] for t in TEACHERS if p in heard[t]]) for p in points}
    fused = by_hand(heard, skill=SKILL, points=len(scene.points))
    if row == "fused":
        return fused
    pooled = {}
    for number in range(len(CLUSTERS[name])):
        members = range(number * EACH, (number + 1) * EACH)
        mean = _mean([fused[point] for point in members if point in fused])
        pooled |= dict.fromkeys(members, mean)
    return pooled


def _mean(rows) -> list[float]:
    return [sum(row[channel] for row in rows) / len(rows) for channel in range(4)]


def labels_of(features: dict[int, list[float]], count: int, axes=(0, 1, 2)) -> list[int]:
    """Best class of each point; `axes` are those of the classes."""
    best = []
    for point in range(count):
        values = [features[point][axis] for axis in axes] if point in features else []
        best.append(values.index(max(values)) if values else NO_FEATURE_LABEL)
    return best


def seen_by_any(name: str) -> set[int]:
    return {point for points in said(name).values() for point in points}


def measured(
    row: str,
    *,
    scans=tuple(CLUSTERS),
    points="seen",
    unseen="miss",
    over="present",
    votes=1,
    turns=False,
    **how,
):
    """mIoU and mAcc in per cent, counted one point at a time over the scans."""
    hit, true, claimed, missing = (dict.fromkeys(range(3), 0) for _ in range(4))
    for name in scans:
        scene = scan(name)
        guesses = labels_of(features_of(row, name, votes, turns), len(scene.points), **how)
        for point, label in enumerate(scene.labels.tolist()):
            if label == IGNORE_LABEL or (points == "seen" and point not in seen_by_any(name)):
                continue
            if guesses[point] == NO_FEATURE_LABEL:
                missing[label] += 1
                continue
            true[label] += 1
            claimed[guesses[point]] += 1
            hit[label] += guesses[point] == label
    ious, accuracies = [], []
    for k in range(3):
        asked = true[k] + (0 if unseen == "ignore" else missing[k])
        if asked == 0:
            if over == "all":
                ious.append(0.0), accuracies.append(0.0)
            continue
        union = true[k] + (missing[k] if unseen == "miss" else 0) + claimed[k] - hit[k]
        ious.append(100 * hit[k] / union)
        accuracies.append(100 * hit[k] / asked)
    return sum(ious) / len(ious), sum(accuracies) / len(accuracies)


def numbers(run: RunContext, row: str) -> tuple[float, float]:
    work(EvaluateStage, run, row)
    found = load_result(run.workspace, row)
    return found["miou"], found["macc"]


ROWS = (
    "teacher:demo-masks",
    "teacher:demo-dense",
    "average",
    "fused",
    "fused+superpoints",
    "student:point",
    "fused+student:point",
)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_the_features_and_labels_and_numbers_that_it_should(tmp_path, row):
    run = homes_run(tmp_path, distill={"students": ["point"]}, fuse={"store_point_features": True})
    assert row in predictor(run).methods.known
    assert numbers(run, row) == pytest.approx(measured(row))
    assert load_result(run.workspace, row)["scenes"] == list(CLUSTERS)
    for name in CLUSTERS:
        count = len(scan(name).points)
        expected = features_of(row, name)
        features, seen = predictor(run).features(row, name)
        assert seen.nonzero()[:, 0].tolist() == sorted(expected)
        if row == "fused+superpoints":  # of any length
            features = features / features.norm(dim=1, keepdim=True)
            expected = {p: _unit(f) for p, f in expected.items()}
        found = dict(zip(sorted(expected), features[seen].tolist(), strict=True))
        assert alike(found, expected)
        assert load_predictions(run.workspace, row, name).tolist() == labels_of(expected, count)


def _unit(feature: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in feature))
    return [value / length for value in feature]


def test_the_numbers_say_how_many_points_had_no_answer(tmp_path):
    """Of the points that some frame sees and that have a label."""
    run = homes_run(tmp_path)
    work(EvaluateStage, run, "teacher:demo-masks")
    scored = [
        (name, point)
        for name in CLUSTERS
        for point in seen_by_any(name)
        if scan(name).labels[point] != IGNORE_LABEL
    ]
    without = [1 for name, point in scored if point not in said(name)["demo-masks"]]
    found = load_result(run.workspace, "teacher:demo-masks")
    assert (found["points"], found["points_without_answer"]) == (len(scored), len(without))
    assert 0 < len(without) < len(scored)


def test_several_prompts_may_ask_for_one_class(tmp_path):
    run = homes_run(tmp_path)
    prompts = ("lamp", "bed", "door", "sofa")  # the last one's axis is on nobody's mind
    mapping = torch.tensor([2, 0, 1, 0])
    run.label_set = toy_labels(prompt_names=prompts, mapping=mapping)
    assert numbers(run, "fused") == pytest.approx(measured("fused"))


@pytest.mark.parametrize("missing", ["demo-masks/", "demo-dense/", "partition"])
def test_a_scan_that_a_teacher_did_not_see_or_that_is_not_cut_is_left_out(tmp_path, missing):
    run = homes_run(tmp_path)
    first, second = CLUSTERS
    gone = (second, missing) if missing == "partition" else (f"{missing}{second}", "lift")
    left = tuple(i for i in EvaluateStage(run).inputs("average") if (i.unit, i.stage) != gone)
    assert len(left) == len(EvaluateStage(run).inputs("average")) - 1
    EvaluateStage(run).work(Task("average", left, "t"), nothing)
    assert load_result(run.workspace, "average")["scenes"] == [first]


def test_without_teachers_all_points_are_scored(tmp_path):
    """Frames that nobody looks at cannot tell which points were seen."""
    run = homes_run(tmp_path, run={"teachers": []}, distill={"pretrained": "given"})
    run.pretrained = None  # it stands beside the run
    assert numbers(run, "student:pretrained") == pytest.approx(
        measured("student:pretrained", points="all")
    )
    assert measured("student:pretrained", points="all") != measured("student:pretrained")


OPENSCENE = {"votes": 5, "turns": True, "points": "all", "unseen": "openscene", "over": "all"}


@follows("evaluate.scored_points")
def test_points(tmp_path) -> Outcomes:
    for value in ("seen", "all"):
        run = homes_run(tmp_path / value, evaluate={"scored_points": value})
        yield numbers(run, "average"), measured("average", points=value)


@pytest.mark.parametrize(("protocol", "points"), [("every point", "seen"), ("openscene", "all")])
def test_the_protocol_says_which_points_are_scored_where_nothing_else_does(
    tmp_path, protocol, points
):
    for value in (None, "seen", "all"):
        setting = {"protocol": protocol, "scored_points": value}
        assert homes_run(tmp_path, evaluate=setting).protocol.points == (value or points)


@follows("evaluate.protocol")
def test_protocol(tmp_path) -> Outcomes:
    for value, how in (
        ("every point", {"points": "seen"}),
        ("seen", {"points": "seen", "unseen": "ignore"}),
        ("standard", {"points": "all"}),
        ("openscene", OPENSCENE),
    ):
        run = homes_run(
            tmp_path / value, evaluate={"protocol": value}, distill={"voxel_size": VOXEL}
        )
        yield numbers(run, "teacher:demo-masks"), measured("teacher:demo-masks", **how)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_measured_as_openscene_measures_it(tmp_path, row):
    """All points, five turned and scaled runs, 2D features by the voxel as well."""
    run = homes_run(
        tmp_path,
        distill={"students": ["point"], "voxel_size": VOXEL},
        fuse={"store_point_features": True},
        evaluate={"protocol": "openscene"},
    )
    assert numbers(run, row) == pytest.approx(measured(row, **OPENSCENE))
    for name in CLUSTERS:
        features, seen = predictor(run).features(row, name)
        expected = features_of(row, name, 5, turns=True)
        assert seen.nonzero()[:, 0].tolist() == sorted(expected)
        if row != "fused+superpoints":  # whose length is another
            found = dict(zip(sorted(expected), features[seen].tolist(), strict=True))
            assert alike(found, {p: list(map(float, f)) for p, f in expected.items()})
    if not row.startswith(
        ("student", "fused+superpoints")
    ):  # superpoints are far apart and of one feature
        differing = {**OPENSCENE, "turns": False}
        assert features_of(row, MEASURED, 5, turns=True) != features_of(row, MEASURED)
        assert measured(row, **differing) != measured(row, **OPENSCENE)


@pytest.mark.parametrize("votes", [1, 3])
def test_the_ensemble_takes_some_points_of_either_side(votes):
    """Otherwise the tests of its row could not tell it from one of them."""
    sides = {"fused": 0, "student": 0, "only the student": 0}
    for name in CLUSTERS:
        both, fused = features_of("fused+student:point", name, votes), lifted_of("fused", name)
        for point, of_student in features_of("student:point", name, votes).items():
            if point not in fused:
                sides["only the student"] += 1
            else:
                sides["student" if alike(both[point], of_student) else "fused"] += 1
    assert min(sides.values()) > 0, sides


@follows("evaluate.ensemble")
def test_ensemble(tmp_path) -> Outcomes:
    """A row of each student in the end; by default where the protocol is OpenScene's."""
    rows = ("fused+student:point", "fused+student:superpoint")
    for number, (setting, students) in enumerate(
        (({}, 2), ({"ensemble": True}, 2), ({"ensemble": True}, 1))
    ):
        students = [row.partition(":")[2] for row in rows[:students]]
        run = homes_run(tmp_path / str(number), evaluate=setting, distill={"students": students})
        units = [unit for unit in EvaluateStage(run).units() if unit.startswith("fused+student")]
        yield units, list(rows[: len(students)]) if setting else []


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ({"protocol": "standard"}, False),
        ({"protocol": "openscene"}, True),
        ({"protocol": "openscene", "ensemble": False}, False),
    ],
)
def test_the_protocols_of_openscene_have_its_ensemble(tmp_path, setting, shown):
    methods = predictor(homes_run(tmp_path, evaluate=setting)).methods
    assert ("fused+student:superpoint" in methods.names) == shown
    assert "fused+student:superpoint" in methods.known


def test_other_seeds_turn_otherwise_and_the_same_seed_the_same(tmp_path):
    def features(seed: int) -> torch.Tensor:
        run = homes_run(
            tmp_path / str(seed), run={"seed": seed}, evaluate={"protocol": "openscene"}
        )
        return predictor(run).features("student:superpoint", MEASURED)[0]

    assert torch.equal(features(1), features(1))
    assert not torch.equal(features(1), features(2))


@follows("evaluate.votes")
def test_votes(tmp_path) -> Outcomes:
    """Of the protocol where nothing is said: OpenScene's has five, turned."""
    for number, (setting, votes, turns) in enumerate(
        (
            ({}, 1, False),
            ({"votes": 2}, 2, False),
            ({"votes": 3}, 3, False),
            ({"protocol": "openscene"}, 5, True),
            ({"protocol": "openscene", "votes": 2}, 2, True),
        )
    ):
        run = homes_run(tmp_path / str(number), evaluate=setting)
        found = [predictor(run).features("student:superpoint", name)[0] for name in CLUSTERS]
        yield found, [said_by_the_student(scan(name), votes, turns) for name in CLUSTERS]


def test_what_is_measured_of_a_student_is_its_votes(tmp_path):
    for votes in (1, 4):
        run = homes_run(tmp_path / str(votes), evaluate={"votes": votes})
        expected = measured("student:superpoint", votes=votes)
        assert numbers(run, "student:superpoint") == pytest.approx(expected)


@follows("ingest.validation")
def test_validation(tmp_path) -> Outcomes:
    """How many homes are measured."""
    for value in (1, 2):
        run = homes_run(tmp_path / str(value), ingest={"validation": value})
        found = numbers(run, "average")
        scans = tuple(CLUSTERS)[:value]
        yield (
            (load_result(run.workspace, "average")["scenes"], found),
            (list(scans), measured("average", scans=scans)),
        )


@pytest.mark.parametrize(("protocol", "over"), [("every point", "present"), ("openscene", "all")])
def test_a_class_that_no_scan_has_counts_as_the_protocol_says(tmp_path, protocol, over):
    """The first scan has beds and doors; a lamp is a class all the same."""
    run = homes_run(
        tmp_path,
        ingest={"validation": 1},
        evaluate={"protocol": protocol},
        distill={"voxel_size": VOXEL},
    )
    how = OPENSCENE if protocol == "openscene" else {"over": over}
    expected = measured("average", scans=tuple(CLUSTERS)[:1], **how)
    assert numbers(run, "average") == pytest.approx(expected)
    assert load_result(run.workspace, "average")["per_class"]["lamp"] is None


def labels_by(run: RunContext) -> list[list[int]]:
    work(EvaluateStage, run, "average")
    return [load_predictions(run.workspace, "average", name).tolist() for name in CLUSTERS]


def labels_with(axes) -> list[list[int]]:
    return [
        labels_of(features_of("average", name), len(scan(name).points), axes) for name in CLUSTERS
    ]


@follows("run.prompt")
def test_prompt(tmp_path) -> Outcomes:
    """Of classes and of the vocabulary: to the toy encoder a word with "not" is the next one."""
    for turn, value in enumerate((None, "not a {}")):
        run = homes_run(tmp_path / str(turn), run={"prompt": value})
        labels = labels_with([(axis + turn) % 3 for axis in range(3)])
        fused, seen = predictor(run).features("fused", MEASURED)
        right = by_hand(said(MEASURED), skill=SKILL, points=2 * EACH, turn=turn)
        yield (labels_by(run), fused[seen]), (labels, torch.tensor(list(right.values())))


@follows("run.label_set")
def test_label_set(tmp_path) -> Outcomes:
    """A file's classes in another order; those that come with the package would not do."""
    for value in (CLASSES, CLASSES[::-1]):
        file = tmp_path / f"{value[0]}.json"
        file.write_text(json.dumps({"categories": list(value)}))
        run = homes_run(tmp_path / value[0], run={"label_set": str(file)})
        del run.label_set  # the toy world's; it is read when it is asked for
        yield labels_by(run), labels_with([CLASSES.index(name) for name in value])


@follows("run.text_encoder")
def test_text_encoder(tmp_path, monkeypatch) -> Outcomes:
    class Turned(ToyText):
        def encode(self, texts):
            return super().encode([f"not {text}" for text in texts])

    for value, axes in (("toy", (0, 1, 2)), ("turned", (1, 2, 0))):
        kind = {"toy": ToyText, "turned": Turned}[value]
        monkeypatch.setitem(TEXT_ENCODERS, value, lambda _, kind=kind: kind())
        run = homes_run(tmp_path / value, run={"text_encoder": value})
        del run.text_encoder
        yield labels_by(run), labels_with(axes)


@follows("run.workspace")
def test_workspace(tmp_path) -> Outcomes:
    for value in ("one", "other"):
        run = homes_run(tmp_path, run={"workspace": str(tmp_path / value)})
        work(EvaluateStage, run, "average")
        found = sorted(path.parent.parent.parent.name for path in tmp_path.rglob("result.json"))
        yield found, {"one": ["one"], "other": ["one", "other"]}[value]


def test_a_protocol_that_is_not_the_runs_is_not_used(tmp_path):
    run = homes_run(tmp_path, evaluate={"protocol": "openscene", "scored_points": "all"})
    work(EvaluateStage, run, "average")
    other = replace(run.config, evaluate=replace(run.config.evaluate, protocol="seen"))
    assert "5 runs" in load_result(run.workspace, "average")["protocol"]
    assert "turned" in load_result(run.workspace, "average")["protocol"]
    fresh = RunContext(other)
    fresh.text_encoder, fresh.vocabulary, fresh.label_set = (
        run.text_encoder,
        run.vocabulary,
        run.label_set,
    )
    work(EvaluateStage, fresh, "average")
    assert "left out" in load_result(fresh.workspace, "average")["protocol"]


def test_the_result_has_every_number_of_the_protocol_and_what_made_it(tmp_path):
    run = homes_run(tmp_path, evaluate={"protocol": "standard"})
    work(EvaluateStage, run, "average")
    found = load_result(run.workspace, "average")
    scenes = []
    for name in CLUSTERS:
        predicted = load_predictions(run.workspace, "average", name)
        scenes.append((predicted, scan(name).labels))
    expected = evaluate_semantic(scenes, CLASSES, run.protocol)
    assert found["miou"] == pytest.approx(expected.miou)
    assert found["overall_accuracy"] == pytest.approx(expected.overall_accuracy)
    assert found["per_class_accuracy"] == pytest.approx(expected.per_class_accuracy)
    assert found["interval"] == pytest.approx(list(expected.interval))
    assert found["interval"][0] < found["interval"][1]
    assert found["rules"] == run.protocol.facts()
    assert (found["label_set"], found["classes"]) == (run.label_set.name, list(CLASSES))
    assert found["prompts"] == [f"a {name} in a scene" for name in CLASSES]
    assert set(found["software"]) == {"pcdistill", "torch"}


def test_first_classes_are_scored_as_if_there_were_no_others(tmp_path, monkeypatch):
    """Among beds and doors alone, lamps are no guess and no truth."""
    monkeypatch.setitem(LONG_TAIL, "toy", (2,))
    run = homes_run(
        tmp_path,
        evaluate={"protocol": "long tail", "votes": 1},
        distill={"students": ["point"], "voxel_size": VOXEL},
    )
    run.label_set = toy_labels(name="toy")
    work(EvaluateStage, run, "student:point")
    features = {name: features_of("student:point", name, votes=1, turns=True) for name in CLUSTERS}
    scenes = []
    for name in CLUSTERS:
        guesses = labels_of(features[name], len(scan(name).points), axes=(0, 1))
        truth = scan(name).labels
        scenes.append((torch.tensor(guesses), torch.where(truth < 2, truth, IGNORE_LABEL)))
    expected = evaluate_semantic(scenes, CLASSES[:2], run.protocol)
    found = load_result(run.workspace, "student:point")
    assert found["first_classes"]["2"]["miou"] == pytest.approx(expected.miou)
    assert found["first_classes"]["2"]["macc"] == pytest.approx(expected.macc)
    assert found["first_classes"]["2"]["miou"] != pytest.approx(found["miou"])


def test_an_interrupted_measuring_goes_on_with_the_next_scene(tmp_path, monkeypatch):
    whole = homes_run(tmp_path / "whole")
    work(EvaluateStage, whole, "average")
    run = homes_run(tmp_path / "broken")
    asked, ask = [], ScenePredictor.features

    def features(self, method, scene, *rest):
        asked.append(scene)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return ask(self, method, scene, *rest)

    monkeypatch.setattr(ScenePredictor, "features", features)
    with pytest.raises(KeyboardInterrupt):
        work(EvaluateStage, run, "average")
    assert not run.workspace.result("average").exists()
    work(EvaluateStage, run, "average")
    first, second = CLUSTERS
    assert asked == [first, second, second]
    assert load_result(run.workspace, "average") == load_result(whole.workspace, "average")
    assert not run.workspace.halfway_counts("average").exists()
    work(EvaluateStage, run, "average")  # made anew, nothing is left of before
    assert asked[3:] == [first, second]


@pytest.mark.parametrize("spoil", ["other settings", "damage", "a list", "huge"])
def test_halfway_counts_of_other_work_and_damaged_ones_are_not_used(tmp_path, spoil):
    counts = SceneCounts((torch.tensor([[3, 0], [0, 4], [1, 0]]),), {1: (torch.ones(2, 1).long(),)})
    HalfwayCounts(tmp_path, "mark", 2).save("room", counts)
    kept = HalfwayCounts(tmp_path, "mark", 2).load("room")
    assert torch.equal(kept.draws[0], counts.draws[0])
    assert torch.equal(kept.first[1][0], counts.first[1][0])
    assert HalfwayCounts(tmp_path, "mark", 2).load("hall") is None
    if spoil == "damage":
        next(tmp_path.glob("*.json")).write_text('{"mark": "mark", "scene": "room", "draws": 3}')
    if spoil == "a list":
        written = {"mark": "mark", "scene": "room", "draws": [], "first": []}
        next(tmp_path.glob("*.json")).write_text(json.dumps(written))
    if spoil == "huge":
        content = '{"mark": "mark", "scene": "room", "first": {}, "draws": [[[0, 0, Infinity]]]}'
        next(tmp_path.glob("*.json")).write_text(content)
    mark = "other" if spoil == "other settings" else "mark"
    assert HalfwayCounts(tmp_path, mark, 2).load("room") is None
    with pytest.raises(ArtifactError, match=r"room.json lacks the counts of room.*; run again"):
        HalfwayCounts(tmp_path, mark, 2).require("room")
