"""HTML of the panel: nothing that a run or a user wrote becomes markup."""

from __future__ import annotations

from types import SimpleNamespace

from pcdistill.inference import PointExplanation, TeacherVote
from pcdistill.viewer import markup

EVIL = "<img src=x onerror=alert(1)>"


def response(*answers, best=0.3):
    return SimpleNamespace(answers=answers, best_similarity=best, floor=0.4)


def test_whatever_is_written_is_escaped():
    answer = SimpleNamespace(looks_like=EVIL, relevancy=0.5, size=(1, 2, 3))
    vote = TeacherVote(EVIL, 3, EVIL, EVIL, 0.5, None, None)
    found = PointExplanation(0, (vote,), EVIL)
    for html in (
        markup.note(EVIL),
        markup.warning(EVIL),
        markup.answer_box(EVIL, EVIL, response(answer), [EVIL]),
        markup.swatches([EVIL], [(1, 2, 3)]),
        markup.explanation_box(found, [(EVIL, EVIL)], (0, 0, 0)),
    ):
        assert "<img" not in html
        assert "&lt;img" in html


def test_an_answer_says_what_was_found_or_why_nothing():
    answer = SimpleNamespace(looks_like="sofa", relevancy=0.5, size=(1.0, 2.0, 3.0))
    html = markup.answer_box("couch", "fused", response(answer), [])
    assert "sofa" in html
    assert "1.00 x 2.00 x 3.00" in html
    nothing = markup.answer_box("couch", "fused", response(), ["foo"])
    assert "similarity 0.30, more than 0.40 is asked for" in nothing
    assert "left out of the question: foo" in nothing
    assert "are looked for" in markup.answer_box("couch", "fused", None, [])
    assert "nothing is known" in markup.answer_box("couch", "fused", response(best=-1.0), [])


def test_a_heat_bar_names_its_ends():
    assert "relevancy 0.10" in markup.heat_bar(0.1, 0.93)
    assert "0.93" in markup.heat_bar(0.1, 0.93)


def test_why_says_what_is_not_known():
    assert "is not stored" in markup.explanation_box(None, [], (0, 0, 0))
    silent = TeacherVote("a", 0, None, None, 0.0, None, None)
    assert "nothing" in markup.explanation_box(PointExplanation(0, (silent,), None), [], (0, 0, 0))
