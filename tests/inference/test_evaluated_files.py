"""Scores of label files: counted by hand, against the reference, and refused where unequal."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.inference import evaluate_files
from pcdistill.inference import evaluated_files as module
from pcdistill.scenes import load_label_set, write_ply
from tests.conftest import golden_cases, load_npz

SET = load_label_set("scannet20")
FAR = torch.tensor([451234.0, 5411876.0, 118.0], dtype=torch.float64)


def write(file, labels, points=None):
    """Labels in the format of the file's suffix."""
    file.parent.mkdir(exist_ok=True)
    if file.suffix == ".txt":
        ids = [*SET.ids, 0]
        file.write_text("".join(f"{ids[min(int(one), 20)]}\n" for one in labels))
    elif file.suffix == ".npz":
        arrays = {} if points is None else {"points": points.numpy()}
        np.savez(file, labels=labels.numpy(), **arrays)
    else:
        where = torch.zeros(len(labels), 3) if points is None else points
        write_ply(file, where, labels=labels, doubles=True)
    return file


def random_scene(seed, points=500):
    """Places, predictions with some points without, true labels with some ignored."""
    chance = torch.Generator().manual_seed(seed)
    where = 10 * torch.rand(points, 3, generator=chance, dtype=torch.float64)
    predicted = torch.randint(0, 20, (points,), generator=chance)
    alike = torch.rand(points, generator=chance) < 0.5
    true = torch.where(alike, predicted, torch.randint(0, 20, (points,), generator=chance))
    true[true >= 17] = 255  # three classes are absent
    predicted[torch.rand(points, generator=chance) < 0.1] = 255
    true[torch.rand(points, generator=chance) < 0.1] = 255
    return where, predicted, true


def count_by_hand(scenes):
    """IoU and accuracy of each class with a true point, and the overall accuracy; in per cent."""
    found, present, guessed, right = ([0] * 20 for _ in range(4))
    for _, predicted, true in scenes:
        for guess, truth in zip(predicted.tolist(), true.tolist(), strict=True):
            if truth == 255:
                continue
            present[truth] += 1
            if guess != 255:
                guessed[guess] += 1
            found[truth] += guess == truth
    right = sum(found)
    iou = {
        SET.names[c]: 100 * found[c] / (present[c] + guessed[c] - found[c]) if present[c] else None
        for c in range(20)
    }
    accuracy = {
        SET.names[c]: 100 * found[c] / present[c] if present[c] else None for c in range(20)
    }
    return iou, accuracy, 100 * right / sum(present)


@pytest.mark.parametrize("suffixes", [("ply", "ply"), ("npz", "ply"), ("txt", "npz")])
def test_two_files_are_counted_point_by_point(tmp_path, suffixes):
    where, predicted, true = random_scene(1)
    first = write(tmp_path / f"pred.{suffixes[0]}", predicted, where)
    second = write(tmp_path / f"true.{suffixes[1]}", true, where)
    result = evaluate_files(first, second, SET)
    iou, accuracy, overall = count_by_hand([(where, predicted, true)])
    assert result.per_class == pytest.approx(iou)
    assert result.per_class_accuracy == pytest.approx(accuracy)
    known = [value for value in iou.values() if value is not None]
    assert len(known) == 17
    assert result.miou == pytest.approx(sum(known) / len(known))
    assert result.overall_accuracy == pytest.approx(overall)
    assert result.points == int((true != 255).sum())
    assert result.unseen_points == int(((true != 255) & (predicted == 255)).sum())


def test_folders_are_counted_together_whatever_the_formats(tmp_path):
    scenes = [random_scene(seed, points=100 + seed) for seed in range(4)]
    formats = ["ply", "npz", "txt", "ply"]
    for number, (where, predicted, true) in enumerate(scenes):
        write(tmp_path / "pred" / f"scene{number}.{formats[number]}", predicted, where)
        write(tmp_path / "true" / f"scene{number}.{formats[-1 - number]}", true, where)
    (tmp_path / "pred" / "classes.txt").write_text("0 wall\n")
    told = []
    result = evaluate_files(
        tmp_path / "pred", tmp_path / "true", SET, report=lambda *words: told.append(words)
    )
    iou, accuracy, overall = count_by_hand(scenes)
    assert result.per_class == pytest.approx(iou)
    assert result.per_class_accuracy == pytest.approx(accuracy)
    assert result.overall_accuracy == pytest.approx(overall)
    assert result.confusion.dtype == torch.int64
    assert result.scenes == 4
    assert told == [(number, 4, "scenes") for number in (1, 2, 3, 4)]


def test_splitting_a_scene_changes_nothing(tmp_path):
    where, predicted, true = random_scene(5)
    whole = evaluate_files(
        write(tmp_path / "p.npz", predicted, where), write(tmp_path / "t.npz", true, where), SET
    )
    for part in range(5):
        rows = slice(100 * part, 100 * (part + 1))
        write(tmp_path / "pred" / f"{part}.npz", predicted[rows], where[rows])
        write(tmp_path / "true" / f"{part}.npz", true[rows], where[rows])
    split = evaluate_files(tmp_path / "pred", tmp_path / "true", SET)
    assert torch.equal(split.confusion, whole.confusion)
    assert split.per_class == whole.per_class
    assert split.miou == whole.miou


@pytest.mark.parametrize("file", golden_cases("metrics/*[0-9].npz"))
@pytest.mark.parametrize("name", ["all", "absent", "nofeat"])
def test_openscenes_arithmetic_is_the_reference(tmp_path, file, name):
    case = load_npz(file)
    np.savez(tmp_path / "pred.npz", labels=case[f"{name}_pred"])
    np.savez(tmp_path / "true.npz", labels=case[f"{name}_gt"])
    own = load_label_set(file.stem)
    result = evaluate_files(tmp_path / "pred.npz", tmp_path / "true.npz", own, "openscene")
    assert result.miou == pytest.approx(100 * float(case[f"{name}_mean_iou"]), abs=1e-10)
    assert result.macc == pytest.approx(100 * float(case[f"{name}_mean_acc"]), abs=1e-10)
    assert np.array_equal(result.confusion.numpy(), case[f"{name}_confusion"])
    for value, reference in zip(result.per_class.values(), case[f"{name}_class_iou"], strict=True):
        assert (value is None) == math.isnan(reference)
        assert value is None or value == pytest.approx(100 * reference, abs=1e-10)


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("openscene", "left out of its IoU and are misses in its accuracy"),
        ("every point", "count as misses"),
        ("seen", "are left out of its numbers"),
    ],
)
def test_protocols_differ_in_what_no_prediction_counts_as(tmp_path, protocol, said):
    predicted, true = torch.tensor([0, 255, 1, 1]), torch.tensor([0, 0, 1, 1])
    result = evaluate_files(
        write(tmp_path / "p.npz", predicted), write(tmp_path / "t.npz", true), SET, protocol
    )
    expected = {"openscene": (100, 50), "every point": (50, 50), "seen": (100, 100)}[protocol]
    assert (result.per_class["wall"], result.per_class_accuracy["wall"]) == expected
    classes = 20 if protocol == "openscene" else 2
    assert result.miou == pytest.approx((expected[0] + 100) / classes)
    assert said in result.protocol
    for told in ("run", "prompt", "frame"):  # nobody knows how a file was predicted
        assert told not in result.protocol


def test_a_perfect_prediction_far_out_is_perfect(tmp_path):
    where, _, true = random_scene(2)
    first = write(tmp_path / "p.ply", true, where + FAR)
    second = write(tmp_path / "t.npz", true, where + FAR)
    result = evaluate_files(first, second, SET)
    assert (result.miou, result.macc, result.overall_accuracy) == (100, 100, 100)


def test_the_nearest_point_answers_only_where_it_is_asked_for(tmp_path):
    where, _, true = random_scene(3)
    kept = torch.arange(0, 500, 2)
    moved = where[kept] + 0.004
    first = write(tmp_path / "p.ply", true[kept], moved + FAR)
    second = write(tmp_path / "t.ply", true, where + FAR)
    with pytest.raises(SceneError, match=r"has 250 points, expected 500 .*--within METRES"):
        evaluate_files(first, second, SET)
    result = evaluate_files(first, second, SET, within=0.01)
    labelled = true != 255
    apart = torch.cdist(where, moved).amin(dim=1)
    nearest = true[kept][torch.cdist(where, moved).argmin(dim=1)]
    answered = (apart <= 0.01) & (nearest != 255)
    assert result.unseen_points == int((labelled & ~answered).sum())
    assert int(result.confusion.diagonal().sum()) == int((labelled & answered).sum()) > 150
    nearer = evaluate_files(first, second, SET, within=0.005)  # all are 6.9 mm away
    assert nearer.unseen_points == int(labelled.sum())


def test_points_that_lie_elsewhere_are_refused(tmp_path):
    where, predicted, true = random_scene(4)
    first = write(tmp_path / "p.ply", predicted, where.flip(0))
    second = write(tmp_path / "t.ply", true, where)
    with pytest.raises(SceneError, match=r"500 of its 500 points lie elsewhere .* up to \d"):
        evaluate_files(first, second, SET)
    shifted = write(tmp_path / "s.ply", predicted, where + torch.tensor([0, 0, 0.002]))
    with pytest.raises(SceneError, match="500 points lie elsewhere"):
        evaluate_files(shifted, second, SET)


def test_files_that_cannot_be_compared_are_refused(tmp_path):
    labels = torch.zeros(3, dtype=torch.int64)
    ply = write(tmp_path / "a.ply", labels)
    text = write(tmp_path / "a.txt", labels)
    none = write(tmp_path / "none.ply", labels + 255)
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(SceneError, match=r"a\.txt: has no coordinates, which --within needs"):
        evaluate_files(text, ply, SET, within=0.1)
    with pytest.raises(SceneError, match=r"none\.ply: no point has a label of scannet20"):
        evaluate_files(ply, none, SET)
    with pytest.raises(ConfigError, match="--within is 0, expected a distance > 0"):
        evaluate_files(ply, ply, SET, within=0)
    with pytest.raises(ConfigError, match="unknown protocol 'openscenes'"):
        evaluate_files(ply, ply, SET, "openscenes")
    with pytest.raises(ConfigError, match=r"a\.ply: is no folder but .*empty is"):
        evaluate_files(ply, folder, SET)
    with pytest.raises(ConfigError, match=r"empty: has no files \.ply, \.npz, \.txt"):
        evaluate_files(folder, folder, SET)


def test_folders_must_have_the_same_scenes(tmp_path, caplog):
    labels = torch.zeros(3, dtype=torch.int64)
    for name in ("a", "b"):
        write(tmp_path / "true" / f"{name}.ply", labels)
    write(tmp_path / "pred" / "a.ply", labels)
    with pytest.raises(ConfigError, match=r"has no labels of 1 of the 2 scenes of .*\(b\)"):
        evaluate_files(tmp_path / "pred", tmp_path / "true", SET)
    for name in ("b", "c"):
        write(tmp_path / "pred" / f"{name}.npz", labels)
    assert evaluate_files(tmp_path / "pred", tmp_path / "true", SET).scenes == 2
    assert "not measured" in caplog.text
    assert caplog.text.rstrip().endswith(": c")
    write(tmp_path / "pred" / "b.ply", labels)
    with pytest.raises(ConfigError, match=r"has both b\.npz and b\.ply"):
        evaluate_files(tmp_path / "pred", tmp_path / "true", SET)


def test_scenes_are_read_one_after_the_other(tmp_path, monkeypatch):
    """Of 30 scenes no more than two are in memory at once."""
    labels = torch.arange(20)
    for name in range(30):
        write(tmp_path / "a" / f"{name}.npz", labels)
    read, alive, largest = module.read_label_file, [], []

    def watched(*args, **kwargs):
        found = read(*args, **kwargs)
        alive.append(weakref.ref(found.labels))
        largest.append(sum(one() is not None for one in alive))
        return found

    monkeypatch.setattr(module, "read_label_file", watched)
    evaluate_files(tmp_path / "a", tmp_path / "a", SET)
    assert len(alive) == 60
    assert max(largest) <= 4


def test_what_was_counted_is_not_read_again_unless_it_changed(tmp_path, monkeypatch):
    """By any label file or setting that a count depends on; the protocol is none of these."""
    for number in range(3):
        where, predicted, true = random_scene(number)
        write(tmp_path / "pred" / f"{number}.npz", predicted, where)
        write(tmp_path / "true" / f"{number}.npz", true, where)
    read, opened = module.read_label_file, []

    def watched(path, *args, **kwargs):
        opened.append(path)
        return read(path, *args, **kwargs)

    monkeypatch.setattr(module, "read_label_file", watched)

    def scenes_read(protocol="every point", **how):
        opened.clear()
        pairs = []
        result = evaluate_files(
            *(tmp_path / "pred", tmp_path / "true", SET, protocol),
            **{"halfway": tmp_path / "counts", "measured": pairs.append, **how},
        )
        fresh = evaluate_files(
            tmp_path / "pred",
            tmp_path / "true",
            SET,
            protocol,
            **{key: value for key, value in how.items() if key != "halfway"},
        )
        assert torch.equal(result.confusion, fresh.confusion)
        assert (result.miou, result.interval) == (fresh.miou, fresh.interval)
        read_now = {path.stem for path in opened[: len(opened) - 6]}
        assert {pair.scene for pair in pairs if pair.is_new} == read_now
        return read_now

    everything = {"0", "1", "2"}
    assert scenes_read() == everything
    assert scenes_read() == set()
    assert scenes_read("openscene") == set()
    _, other, _ = random_scene(9)
    write(tmp_path / "pred" / "1.npz", other, random_scene(1)[0])
    assert scenes_read() == {"1"}
    write(tmp_path / "true" / "2.npz", other, random_scene(2)[0])
    assert scenes_read() == {"2"}
    assert scenes_read(within=1e-6) == everything
    (tmp_path / "counts" / "0.json").write_text("{")
    assert scenes_read(within=1e-6) == {"0"}
    assert scenes_read(halfway=None) == everything


@pytest.mark.thorough
def test_several_workers_find_the_same(tmp_path):
    """Each its own scenes; counts are whole numbers, in whatever order they come."""
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        for kind in ("out", "true"):
            (tmp_path / kind).mkdir(exist_ok=True)
            labels = torch.randint(0, 20, (50 + number,), generator=generator)
            write_ply(
                tmp_path / kind / f"room{number}.ply",
                torch.arange(3 * len(labels)).reshape(-1, 3).float(),
                labels=labels,
            )
    label_set = load_label_set("scannet20")
    one, two = (
        evaluate_files(tmp_path / "out", tmp_path / "true", label_set, jobs=jobs) for jobs in (1, 2)
    )
    assert torch.equal(one.confusion, two.confusion)
    assert (one.miou, one.macc, one.interval) == (two.miou, two.macc, two.interval)
