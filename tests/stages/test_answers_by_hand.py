"""Questions, the report and the export of two small scans whose answers are known."""

from __future__ import annotations

import importlib
import json
import math
import sys
from html import escape

import pytest
import torch

from pcdistill.artifacts.students import LoadedStudent
from pcdistill.inference import Question, answer_rows, response_record, why_no_answer
from pcdistill.inference.methods import COMBINED
from pcdistill.pipeline.artifact_files import (
    read_json,
    read_provenance,
    read_tensors,
    write_json,
    write_tensors,
)
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.pretrained import StudentInputSpec
from pcdistill.pipeline.result_files import best_measured
from pcdistill.reporting.conclusions import conclusions
from pcdistill.reporting.report_data import NOTHING_FITS
from pcdistill.scenes import read_ply
from pcdistill.stages import ReportStage
from pcdistill.stages.evaluate import EvaluateStage
from tests.fixtures.reference_images import write_images
from tests.fixtures.runs import finished_run, predictor
from tests.stages.followed import Outcomes, follows
from tests.stages.test_evaluate_by_hand import VOXEL, Mirror, labels_of
from tests.stages.test_evaluate_by_hand import features_of as right_features
from tests.stages.toy import MEASURED, TEACHERS, VOCABULARY, work, write_lifted, write_superpoints
from tests.stages.toy_homes import EACH, SECOND, homes_run

STUDENTS = ("point", "superpoint")
BASELINES = ("binary", "shuffled", "oracle")
ASKED = {
    "queries": ["lamp", "door", "giraffe"],
    "expected_classes": ["lamp", "bed"],
    "heat_maps": ["door"],
}


@pytest.fixture(autouse=True)
def students(monkeypatch):
    """The student `point` says what it is shown, the other one that everything is a lamp."""
    needs = StudentInputSpec(VOXEL, "geometry")

    class Lamp(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([[0.0, 0, 1, 0]]).expand(len(x), 4)

    networks = {"point": Mirror(), "superpoint": Lamp()}
    monkeypatch.setattr(
        sys.modules["pcdistill.artifacts.run_artifacts"],
        "load_student",
        lambda workspace, config, name: LoadedStudent(networks[name], needs),
    )


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """What pictures show has tests of its own."""
    blank = torch.zeros(4, 4, 3, dtype=torch.uint8)
    module = importlib.import_module("pcdistill.reporting.collect")
    monkeypatch.setattr(module, "draw_points", lambda *points, **how: blank)


def finished(folder, **sections) -> RunContext:
    """A run of which every row was measured."""
    run = homes_run(folder, distill={"students": list(STUDENTS)}, **sections)
    for unit in EvaluateStage(run).units():
        work(EvaluateStage, run, unit)
    return run


def measure(run: RunContext, miou: dict[str, float | None]) -> None:
    """Say of some rows how well they did."""
    for row, value in miou.items():
        path = run.workspace.evaluation(row) / "result.json"
        known = read_json(path) if path.exists() else {}
        write_json(path, {**known, "miou": value, "macc": value})


def relevancy(feature, axis: int) -> float:
    """Of a word for a unit feature on one or two axes: its share beside two words, four phrases."""
    length = math.sqrt(sum(value * value for value in feature))
    cosines = [value / length / 0.1 for value in feature]
    others = [cosines[other] for other in range(3) if other != axis] + 4 * [cosines[3]]
    return math.exp(cosines[axis]) / sum(map(math.exp, [cosines[axis], *others]))


def test_places_are_found_where_their_word_is_best_first(tmp_path):
    """Two doors, one of them half a lamp to the teachers; lamps are the cluster of the second."""
    run = finished(tmp_path)
    found = finished_run(run).querier.query("door", method="teacher:demo-dense", draw="none")
    places = [(answer.scene, answer.truth, answer.looks_like) for answer in found.answers]
    assert places == [(MEASURED, "door", "door"), (MEASURED, "bed", "door")] or places == [
        (MEASURED, "bed", "door"),
        (MEASURED, "door", "door"),
    ]
    (lamp, half) = (
        finished_run(run).querier.query("lamp", method="teacher:demo-dense", draw="none").answers
    )
    assert (lamp.scene, lamp.truth, half.truth) == (SECOND, "lamp", "door")
    assert lamp.position == pytest.approx((0.25, 0.25, 0.0))
    assert lamp.size == pytest.approx((0.5, 0.5, 0.0))
    assert lamp.points == EACH
    assert lamp.relevancy == pytest.approx(relevancy((0, 0, 1, 0), 2), abs=1e-3)
    assert half.relevancy == pytest.approx(relevancy((0, 1, 2, 0), 2), abs=1e-3)
    assert lamp.rank > half.rank


def test_the_row_that_is_asked_for_answers(tmp_path):
    """To the masks both clusters of the first scan are beds, to the dense teacher both doors."""
    run = finished(tmp_path)
    measure(run, dict.fromkeys(predictor(run).methods.names, 10.0) | {"teacher:demo-dense": 90.0})
    beds = finished_run(run).querier.query(
        "bed", (MEASURED,), method="teacher:demo-masks", draw="none"
    )
    assert beds.method == "teacher:demo-masks"
    assert {answer.looks_like for answer in beds.answers} == {"bed"}
    assert len(beds.answers) == 2
    assert not finished_run(run).querier.query("bed", (MEASURED,), draw="none").answers
    assert (
        finished_run(run).querier.query("bed", (MEASURED,), draw="none").method
        == "teacher:demo-dense"
    )


def ask(run, text, **question):
    querier = finished_run(run).querier
    return querier.query(Question(text, **question), method="teacher:demo-dense", draw="none")


def where(response) -> set[tuple[str, str]]:
    return {(answer.scene, answer.truth) for answer in response.answers}


def test_a_synonym_finds_what_either_text_finds(tmp_path):
    run = finished(tmp_path)
    both = ask(run, "lamp", synonyms=("door",))
    assert where(both) == where(ask(run, "lamp")) | where(ask(run, "door"))
    assert all(answer.similarity > 0.89 for answer in both.answers)


def test_what_fits_a_negative_better_is_no_answer(tmp_path):
    """Asked for doors of any kind, half a lamp is one, by 1 / sqrt(5); it is more of a lamp."""
    run = finished(tmp_path)
    half = ask(run, "door", min_similarity=0.4)
    without = ask(run, "door", min_similarity=0.4, negatives=("lamp",))
    assert half.excluded == 0
    assert any(answer.similarity < 0.5 for answer in half.answers)
    assert without.excluded == 1
    assert len(without.answers) == len(half.answers) - 1
    assert all(answer.similarity > 0.9 for answer in without.answers)


def test_a_similarity_of_ones_own_is_kept_even_by_the_named(tmp_path):
    """Half a lamp has cosine 0.894 with lamp, and lamp is its nearest word."""
    run = finished(tmp_path)
    found = {bound: ask(run, "lamp", min_similarity=bound) for bound in (0.85, 0.93, 1.0)}
    assert [len(found[bound].answers) for bound in found] == [2, 1, 0]
    assert [found[bound].floor for bound in found] == list(found)
    assert why_no_answer(found[1.0]).endswith(
        "similarity 1.00 with 'lamp', more than 1.00 is asked for (teacher:demo-dense, 2 scenes)"
    )


def test_where_everything_is_excluded_the_sentence_says_by_what(tmp_path):
    run = finished(tmp_path)
    found = ask(run, "lamp", negatives=("lamp ", "door"))
    assert found.answers == ()
    assert found.excluded >= 1
    assert why_no_answer(found) == (
        f"nothing here is left: the {found.excluded} places that look like 'lamp' look more like "
        "'lamp ' or 'door' (teacher:demo-dense, 2 scenes)"
    )


def test_a_record_and_a_row_say_all_that_is_known_of_a_place(tmp_path):
    found = ask(finished(tmp_path), "lamp")
    record = json.loads(json.dumps(response_record(found), allow_nan=False))
    assert record["question"] == "lamp"
    assert record["method"] == "teacher:demo-dense"
    lamp, first = found.answers[0], record["answers"][0]
    assert first["scene"] == SECOND
    assert first["box"]["size"] == pytest.approx([0.5, 0.5, 0.0])
    assert first["box"]["center"] == pytest.approx([0.25, 0.25, 0.0])
    assert first["bounds"]["low"] == pytest.approx([0.0, 0.0, 0.0])
    assert first["bounds"]["high"] == pytest.approx([0.5, 0.5, 0.0])
    heads, *rows = answer_rows(found)
    assert len(rows) == len(found.answers)
    row = dict(zip(heads, rows[0], strict=True))
    assert (row["scene"], row["looks_like"], row["truth"]) == (SECOND, "lamp", "lamp")
    assert row["similarity"] == lamp.similarity
    assert (row["length"], row["height"]) == (pytest.approx(0.5), pytest.approx(0.0))
    assert (row["height_axis_z"], row["points"]) == (1.0, EACH)


def test_only_the_scenes_that_are_asked_for_are_searched(tmp_path):
    run = finished(tmp_path)
    assert finished_run(run).querier.query("door", draw="none").scenes == (MEASURED, SECOND)
    alone = finished_run(run).querier.query(
        "door", (SECOND,), method="teacher:demo-dense", draw="none"
    )
    assert alone.scenes == (SECOND,)
    assert {answer.scene for answer in alone.answers} <= {SECOND}


def test_nothing_answers_what_nothing_looks_like(tmp_path):
    run = finished(tmp_path)
    for row in ("teacher:demo-dense", "fused", "student:point"):
        assert finished_run(run).querier.query("giraffe", method=row, draw="none").answers == ()


def test_the_best_row_is_the_one_with_the_highest_number_wherever_it_stands(tmp_path):
    run = finished(tmp_path)
    for best in predictor(run).methods.names:
        if best in BASELINES:
            continue
        measure(run, dict.fromkeys(predictor(run).methods.names, 30.0) | {best: 31.0})
        assert best_measured(run.workspace, predictor(run).methods.names) == best
        assert finished_run(run).best_method == best
        assert predictor(run).methods.require(None, run.workspace) == best
        assert predictor(run).methods.require("average", run.workspace) == "average"
    measure(run, dict.fromkeys(predictor(run).methods.names, 30.0))
    assert (
        best_measured(run.workspace, predictor(run).methods.names)
        == predictor(run).methods.names[-1]
    )  # the later of equals
    measure(run, dict.fromkeys(predictor(run).methods.names))
    assert finished_run(run).best_method == "student:superpoint"


@pytest.mark.parametrize(
    ("selective", "answers"),
    [
        ((True, True), "fused+superpoints"),
        ((True, False), "student:superpoint"),
        ((None, None), "student:superpoint"),  # of a run from before they said so
    ],
)
def test_no_student_answers_for_teachers_that_are_silent_about_most(tmp_path, selective, answers):
    run = finished(tmp_path)
    for name, value in zip(run.config.run.teachers, selective, strict=True):
        known = read_json(run.workspace.capability(name))
        write_json(run.workspace.capability(name), {**known, "selective": value})
    measure(run, dict.fromkeys(predictor(run).methods.names))
    assert finished_run(run).best_method == answers
    measure(run, dict.fromkeys(predictor(run).methods.names, 30.0) | {"student:point": 31.0})
    assert finished_run(run).best_method == "student:point"


@pytest.mark.parametrize("row", BASELINES)
def test_baselines_and_the_oracle_answer_only_by_their_names(tmp_path, row):
    """However well they do."""
    run = finished(tmp_path)
    measure(run, dict.fromkeys(predictor(run).methods.names, 30.0) | {"average": 31.0, row: 90.0})
    assert finished_run(run).best_method == "average"
    assert predictor(run).methods.require(row, run.workspace) == row
    assert finished_run(run).querier.query("door", draw="none").method == "average"
    assert row not in captions(reported(run), "Labels")


def test_pieces_that_were_made_of_other_features_do_not_answer(tmp_path):
    """A damaged or older file of stage evaluate, marked as made from something else."""
    run = finished(tmp_path)
    path = run.workspace.evaluation("teacher:demo-masks") / f"{MEASURED}.safetensors"
    tensors, known = read_tensors(path), read_provenance(path)
    lamps = torch.tensor([[0.0, 0, 1, 0]]).expand(2, 4).half()
    write_tensors(path, {**tensors, "piece_features": lamps}, {**known, "made_from": "others"})
    answers = (
        finished_run(run)
        .querier.query("bed", (MEASURED,), method="teacher:demo-masks", draw="none")
        .answers
    )
    assert [answer.looks_like for answer in answers] == ["bed", "bed"]


@pytest.mark.parametrize("row", ["teacher:demo-masks", "teacher:demo-dense", "student:point", None])
def test_the_export_has_the_labels_of_the_row(tmp_path, row):
    run = finished(tmp_path)
    measure(run, dict.fromkeys(predictor(run).methods.names, 10.0) | {"average": 90.0})
    finished_run(run).export(tmp_path / "to", row)
    for name in (MEASURED, SECOND):
        features = right_features(row or "average", name)
        labels = labels_of(features, 2 * EACH)
        none = run.label_set.ignore_label
        expected = [label if point in features else none for point, label in enumerate(labels)]
        found = read_ply(tmp_path / "to" / f"{name}.ply").scalars["label"]
        assert found.tolist() == expected


def reported(run: RunContext) -> dict:
    work(ReportStage, run, "report")
    return json.loads((run.workspace.report / "report.json").read_text())


def captions(report: dict, section: str) -> list[str]:
    return [p["caption"] for p in report["pictures"] if p["section"].startswith(section)]


def test_the_report_has_the_numbers_of_every_row_and_its_questions_are_judged(tmp_path):
    """The best student answers; `point` was measured best, and fused features answer as well."""
    run = finished(tmp_path, report=ASKED)
    measure(run, {"student:point": 60.0, "student:superpoint": 50.0})
    report = reported(run)
    for row in report["rows"]:
        known = read_json(run.workspace.evaluation(row["name"]) / "result.json")
        assert (row["miou"], row["macc"]) == (known["miou"], known["macc"])
        assert row["per_class"] == known["per_class"]
    assert [row["name"] for row in report["rows"]] == list(predictor(run).methods.names)
    assert {found["method"] for found in report["queries"]} == {"student:point", "fused"}
    for found in report["queries"]:
        word = found["text"]
        if word == "giraffe":
            assert (found["looks_like"], found["holds"]) == (NOTHING_FITS, None)
        elif found["looks_like"] != NOTHING_FITS:
            assert found["holds"] == (found["truth"] == {"lamp": "lamp", "door": "bed"}[word])
    assert {"lamp", "door"} <= {found["truth"] for found in report["queries"]}
    assert report["capability"]["teachers"] == list(TEACHERS)
    values = report["capability"]["values"]
    assert values[0] == pytest.approx([0.6, 0.9, 0.1])  # of lamp, bed and door to the masks
    known = read_json(run.workspace.true_capability)["teachers"]["demo-masks"]["true"]
    true = [known[word] for word in VOCABULARY]
    assert report["capability"]["true"][0] == pytest.approx(true)
    assert report["conclusions"] == list(conclusions(finished_run(run)))
    named = [(one["first"], one["second"]) for one in report["differences"]]
    assert ("fused", "shuffled") in named
    page = (run.workspace.report / "index.html").read_text()
    for sentence in conclusions(finished_run(run)):
        assert escape(sentence) in page


def test_that_nothing_is_found_is_right_where_nothing_is(tmp_path):
    """Lamps are in the second scan only, beds in the first."""
    asked = {
        "queries": ["giraffe", "giraffe"],
        "expected_classes": ["lamp", "bed"],
        "heat_maps": [],
    }
    report = reported(finished(tmp_path, report=asked))
    assert {found["looks_like"] for found in report["queries"]} == {NOTHING_FITS}
    lamp, bed = [MEASURED, SECOND], [SECOND, MEASURED]
    held = [found["scene"] for found in report["queries"] if found["holds"]]
    missed = [found["scene"] for found in report["queries"] if not found["holds"]]
    assert sorted(held) == sorted(2 * [lamp[0], bed[0]])
    assert sorted(missed) == sorted(2 * [lamp[1], bed[1]])


def test_a_place_that_looks_like_the_word_answers_though_it_is_not_very_similar(tmp_path):
    """Its cosine is 0.45; others have 0.67 with a word that they do not mean."""
    run = homes_run(tmp_path)
    write_superpoints(run, MEASURED, [point // 24 for point in range(2 * EACH)])
    blurred = [(10, 9, 0, 0), (9, 10, 0, 0), (0, 0, 1, 2)]
    heard = {point: blurred[point // 24] for point in range(2 * EACH)}
    write_lifted(run, MEASURED, dict.fromkeys(TEACHERS, heard))
    found = finished_run(run).querier.query("lamp", (MEASURED,), method="average", draw="none")
    assert [answer.looks_like for answer in found.answers] == ["lamp"]
    assert found.answers[0].similarity == pytest.approx(1 / math.sqrt(5), abs=1e-3)
    assert found.floor == pytest.approx(9 / math.sqrt(181), abs=1e-3)


def test_what_is_drawn_are_the_teachers_the_fused_and_the_best_student(tmp_path):
    run = finished(tmp_path, report=ASKED)
    for best in STUDENTS:
        measure(run, {"fused": 70.0} | dict.fromkeys((f"student:{s}" for s in STUDENTS), 50.0))
        measure(run, {f"student:{best}": 60.0})
        drawn = captions(reported(run), "Labels")
        assert drawn == [
            "ground truth",
            *(f"teacher:{name}" for name in TEACHERS),
            "teachers fused by capability",
            f"student:{best}",
        ]


@follows("run.title")
def test_title(tmp_path) -> Outcomes:
    for value in ("One", "Other"):
        run = finished(tmp_path / value, run={"title": value}, report=ASKED)
        page = (reported(run), run.workspace.report / "index.html")
        yield (page[0]["title"], f"<title>{value}" in page[1].read_text()), (value, True)


@follows("report.queries")
def test_queries(tmp_path) -> Outcomes:
    for number, value in enumerate((["lamp"], ["door", "bed"])):
        run = finished(
            tmp_path / str(number), report={**ASKED, "queries": value, "expected_classes": []}
        )
        asked = [found["text"] for found in reported(run)["queries"]]
        yield list(dict.fromkeys(asked)), value


@follows("report.expected_classes")
def test_answers(tmp_path) -> Outcomes:
    """The second question is judged by the second answer."""
    for number, value in enumerate((["lamp", "lamp"], ["lamp", "door"], [])):
        asked = {**ASKED, "queries": ["lamp", "lamp"], "expected_classes": value}
        run = finished(tmp_path / str(number), report=asked)
        lamps = [
            found["holds"]
            for found in reported(run)["queries"]
            if (found["text"], found["method"]) == ("lamp", "fused") and found["scene"] == SECOND
        ]
        yield lamps, [answer == "lamp" for answer in value] or [None, None]


@follows("report.heat_maps")
def test_heat_maps(tmp_path) -> Outcomes:
    for number, value in enumerate(([], ["bed"], ["door", "lamp"])):
        run = finished(tmp_path / str(number), report={**ASKED, "heat_maps": value})
        yield captions(reported(run), "Questions"), [f"“{text}”" for text in value]


@follows("report.example_classes")
def test_example_classes(tmp_path) -> Outcomes:
    """Teachers differ most on beds, by 0.8, then on doors, by 0.7, and by 0.1 on lamps."""
    for number, value in enumerate((0, 1, 3)):
        run = finished(tmp_path / str(number), report={**ASKED, "example_classes": value})
        for word in VOCABULARY:
            write_images(run, word)
        examples = reported(run)["examples"]
        shown = [] if examples is None else [one["word"] for one in examples["classes"]]
        yield shown, ["bed", "door", "lamp"][:value]


def test_images_by_which_no_score_was_measured_are_not_shown(tmp_path):
    """They are of an earlier run; the scores are from a table now."""
    run = finished(tmp_path, report={**ASKED, "example_classes": 3})
    for word in VOCABULARY:
        write_images(run, word)
    assert reported(run)["examples"] is not None
    for teacher in TEACHERS:
        path = run.workspace.capability(teacher)
        write_json(path, {**read_json(path), "origin": "a table"})
    assert reported(run)["examples"] is None


@follows("report.scenes")
def test_scenes(tmp_path) -> Outcomes:
    for number, value in enumerate(([], [SECOND], [SECOND, MEASURED])):
        run = finished(tmp_path / str(number), report={**ASKED, "scenes": value})
        yield (
            [caption.split(":")[0] for caption in captions(reported(run), "The scan")],
            value or [MEASURED],
        )


def test_the_rows_are_teachers_their_combinations_and_students(tmp_path):
    run = homes_run(tmp_path, distill={"students": list(STUDENTS)})
    teachers = tuple(f"teacher:{name}" for name in TEACHERS)
    assert predictor(run).methods.names == (
        *teachers,
        *COMBINED,
        "student:point",
        "student:superpoint",
    )
