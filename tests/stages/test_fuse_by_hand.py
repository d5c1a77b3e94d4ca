"""Stage fuse on six points whose fused features were computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pcdistill.artifacts.fused_targets import load_fused_targets
from pcdistill.pipeline.artifact_files import read_provenance, read_tensors, write_tensors
from pcdistill.pipeline.context import RunContext
from pcdistill.stages.fuse import FuseStage
from tests.fixtures.runs import measured_capability, predictor
from tests.stages.followed import Outcomes, alike, follows
from tests.stages.toy import (
    AXES,
    SCENE,
    TEACHERS,
    toy_run,
    work,
    write_capability,
    write_lifted,
    write_superpoints,
)

SKILL = {
    "demo-masks": {"bed": 0.8, "door": 0.3, "lamp": 0.1},
    "demo-dense": {"bed": 0.2, "door": 0.4, "lamp": 0.7},
}
LAMP, BED, DOOR = (0, 0, 3, 0), (2, 0, 0, 0), (0, 1, 0, 1)
SAID = {
    "demo-masks": {0: BED, 2: LAMP, 4: DOOR, 5: BED},
    "demo-dense": {0: LAMP, 2: DOOR, 3: DOOR, 5: BED},
}
"""Both teachers see points 0, 2 and 5, one each 3 and 4, nobody 1."""
IDS = (0, 0, 1, 1, 2, 0)
HALF_STEP = 2.0**-10


def word_of(feature, turn: int = 0) -> str:
    """The word whose axis is longest, where words are that many axes on."""
    return max(AXES, key=lambda word: feature[(AXES[word] + turn) % 3])


def by_hand(said, temperature=0.05, mode="paper", skill=SKILL, points=6, turn=0) -> dict:
    """Point -> fused feature, by Eq. 6 to 8 with plain numbers."""
    fused = {}
    for point in range(points):
        seen_by = [teacher for teacher in said if point in said[teacher]]
        if not seen_by:
            continue
        words = {teacher: word_of(said[teacher][point], turn) for teacher in seen_by}
        votes = {t: sum(skill[t][words[s]] for s in seen_by) for t in seen_by}
        divisor = len(seen_by) if mode == "paper" else sum(votes.values())
        powers = {t: math.exp(votes[t] / divisor / temperature) for t in seen_by}
        total = sum(powers.values())
        shares = {t: powers[t] / total for t in seen_by}
        fused[point] = [sum(shares[t] * said[t][point][c] for t in seen_by) for c in range(4)]
    return fused


def fuse(folder, skill=SKILL, **sections) -> RunContext:
    run = toy_run(folder, **{"fuse": {"store_point_features": True}, **sections})
    write_superpoints(run, SCENE, IDS)
    write_lifted(run, SCENE, SAID)
    write_capability(run, skill)
    work(FuseStage, run, SCENE)
    return run


def kept(run: RunContext) -> dict[int, list[float]]:
    """Point -> feature, as it is stored."""
    targets = load_fused_targets(run.workspace, SCENE)
    return dict(zip(targets.seen.tolist(), targets.features.tolist(), strict=True))


def in_halves(fused: dict) -> dict[int, list[float]]:
    return {point: torch.tensor(row).half().tolist() for point, row in fused.items()}


@pytest.fixture
def run(tmp_path) -> RunContext:
    return fuse(tmp_path)


def test_every_point_is_fused_by_the_skill_of_those_who_see_it(run):
    assert alike(kept(run), in_halves(by_hand(SAID)))


def test_the_capability_table_has_the_teachers_and_words_in_the_order_of_the_run(run):
    expected = [[SKILL[teacher][word] for word in run.vocabulary] for teacher in TEACHERS]
    torch.testing.assert_close(measured_capability(run), torch.tensor(expected))


def test_a_superpoint_has_the_mean_of_its_seen_points(run):
    """Superpoint 0 has points 0, 1 and 5, of which nobody saw the second."""
    fused, targets = by_hand(SAID), load_fused_targets(run.workspace, SCENE)
    means = [
        [sum(fused[p][c] for p in members) / len(members) for c in range(4)]
        for members in ((0, 5), (2, 3), (4,))
    ]
    torch.testing.assert_close(
        targets.superpoint_means.float(), torch.tensor(means), rtol=HALF_STEP, atol=HALF_STEP
    )
    assert targets.superpoint_seen.tolist() == [True, True, True]
    assert targets.seen.tolist() == [0, 2, 3, 4, 5]


def test_a_superpoint_that_nobody_saw_is_marked(tmp_path):
    run = toy_run(tmp_path)
    write_superpoints(run, SCENE, (0, 3, 1, 1, 2, 0))
    write_lifted(run, SCENE, SAID)
    write_capability(run, SKILL)
    work(FuseStage, run, SCENE)
    targets = load_fused_targets(run.workspace, SCENE)
    assert targets.superpoint_seen.tolist() == [True, True, True, False]
    assert not targets.superpoint_means[3].any()


def test_the_row_that_is_measured_has_the_same_features(run):
    features, seen = predictor(run).features("fused", SCENE)
    assert seen.tolist() == [True, False, True, True, True, True]
    expected = torch.tensor([by_hand(SAID).get(point, [0.0] * 4) for point in range(6)])
    torch.testing.assert_close(features, expected)


def test_the_average_and_linear_rows_by_hand(run):
    """Features are on the axes, so that each cosine with its word is 1; a door's is sqrt(1/2)."""
    average, _ = predictor(run).features("average", SCENE)
    linear, _ = predictor(run).features("linear", SCENE)
    door = 0.5**0.5  # weight of the teacher that saw a door
    assert average[0].tolist() == pytest.approx([1, 0, 1.5, 0])
    assert linear[0].tolist() == pytest.approx([1, 0, 1.5, 0])
    assert average[2].tolist() == pytest.approx([0, 0.5, 1.5, 0.5])
    expected = [0, door / (1 + door), 3 / (1 + door), door / (1 + door)]
    assert linear[2].tolist() == pytest.approx(expected)
    for point, feature in ((3, DOOR), (4, DOOR), (5, BED), (1, (0, 0, 0, 0))):
        assert average[point].tolist() == pytest.approx(feature)
        assert linear[point].tolist() == pytest.approx(feature)


def test_teachers_compare_in_the_words_of_the_vocabulary(tmp_path):
    """With another skill for each word, a vote in the order of the classes gives other weights."""
    skill = {
        "demo-masks": {"bed": 0.9, "door": 0.1, "lamp": 0.2},
        "demo-dense": dict.fromkeys(AXES, 0.5),
    }
    run = fuse(tmp_path, skill)
    assert alike(kept(run), in_halves(by_hand(SAID, skill=skill)))


@pytest.mark.parametrize("mode", ["paper", "release"])
def test_of_three_teachers_those_who_do_not_see_a_point_neither_vote_nor_count(tmp_path, mode):
    skill = {**SKILL, "third": {"bed": 0.5, "door": 0.9, "lamp": 0.3}}
    said = {**SAID, "third": {0: DOOR, 1: BED, 3: LAMP, 4: BED}}
    sections = {
        "run": {"teachers": list(said)},
        "fuse": {"mode": mode, "store_point_features": True},
    }
    run = toy_run(tmp_path, **sections)
    write_superpoints(run, SCENE, IDS)
    write_lifted(run, SCENE, said)
    write_capability(run, skill)
    work(FuseStage, run, SCENE)
    assert alike(kept(run), in_halves(by_hand(said, mode=mode, skill=skill)))


def test_fused_features_name_the_weights_that_they_came_from(tmp_path):
    run = fuse(tmp_path)
    said = {
        name: {"revision": f"{number}", "license": "MIT"} for number, name in enumerate(TEACHERS)
    }
    for name in TEACHERS:
        path = run.workspace.point_features(name, SCENE)
        write_tensors(
            path, read_tensors(path), {"teacher": name, "text_space": "toy", **said[name]}
        )
    run.teacher = None  # no teacher is loaded for it
    work(FuseStage, run, SCENE)
    known = read_provenance(run.workspace.fused(SCENE))
    assert known["weights"] == said
    assert known["text_encoder"] == "static"


@follows("fuse.temperature")
def test_temperature(tmp_path) -> Outcomes:
    for value in (0.02, 0.05, 2.0):
        run = fuse(tmp_path / str(value), fuse={"temperature": value, "store_point_features": True})
        yield kept(run), in_halves(by_hand(SAID, temperature=value))


@follows("fuse.mode")
def test_mode(tmp_path) -> Outcomes:
    for value in ("paper", "release"):
        run = fuse(tmp_path / value, fuse={"mode": value, "store_point_features": True})
        yield kept(run), in_halves(by_hand(SAID, mode=value))


@follows("fuse.store_point_features")
def test_keep_points(tmp_path) -> Outcomes:
    for value in (False, True):
        run = fuse(tmp_path / str(value), fuse={"store_point_features": value})
        features = load_fused_targets(run.workspace, SCENE).features
        yield (
            features is not None and features.tolist(),
            value and list(in_halves(by_hand(SAID)).values()),
        )


@follows("run.teachers")
def test_teachers(tmp_path) -> Outcomes:
    """Only those of the run are fused."""
    for value in (("demo-masks", "demo-dense"), ("demo-dense",), ("demo-masks",)):
        run = fuse(tmp_path / "-".join(value), run={"teachers": list(value)})
        said = {teacher: SAID[teacher] if teacher in value else {} for teacher in TEACHERS}
        yield kept(run), in_halves(by_hand(said))
