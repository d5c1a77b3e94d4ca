"""What is on the screen after each choice; runs that lack this or that."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.inference import open_run
from pcdistill.viewer import ViewerSession
from pcdistill.viewer.scene_content import ANSWER, SCAN, TRUTH
from tests.fixtures.viewer_run import (
    FLOOR,
    OTHER_SCENE,
    SCENE,
    SOFA,
    WALL,
    ceiling_point,
    room,
    sofa_point,
    write_run,
)


def panes(session):
    return session.panes(session.camera())


def test_a_measured_scene_comes_first_and_only_what_is_there_is_offered(session):
    assert session.content.name == SCENE
    assert session.views[:4] == (SCAN, TRUTH, "teacher:demo-dense", "teacher:demo-masks")
    assert "fused" in session.views
    assert not [view for view in session.views if view.startswith("student")]  # not trained
    assert session.state.view == session.content.best_method


def test_views_say_what_each_teacher_says(session):
    sofa, ceiling = sofa_point(), ceiling_point()
    said = {view: session.content.labels(view) for view in session.views}
    names = session.run.class_names
    assert names[said["teacher:demo-dense"][sofa]] == "sofa"
    assert names[said["teacher:demo-masks"][sofa]] == "bed"
    assert names[said["fused"][sofa]] == "sofa"  # demo-dense is the better one
    assert said["teacher:demo-masks"][ceiling] < 0  # it sees no ceiling
    assert torch.equal(said[TRUTH], room().labels)
    assert said[SCAN] is None


def test_one_two_and_many_views(session):
    session.change(view=SCAN, hide_ceiling=False)
    (only,) = panes(session)
    assert torch.equal(only.colors, room().colors)
    session.change(layout="side by side", beside=(SCAN, TRUTH, "fused"))
    shown = panes(session)
    assert [pane.title for pane in shown] == [SCAN, TRUTH, "fused"]
    offsets = torch.tensor([pane.offset for pane in shown])
    assert float((offsets[1] - offsets[0]).norm()) > 4  # the room is 5 m by 4 m
    assert torch.allclose(offsets[2], 2 * offsets[1])
    session.change(beside=(SCAN, TRUTH, "fused", "average"))
    four = torch.tensor([pane.offset for pane in panes(session)])
    assert torch.allclose(four[3], four[1] + four[2], atol=1e-5)  # two rows of two
    assert abs(float(four[1] @ four[2])) < 1e-4
    assert float(four[2].norm()) > 4


def test_a_wipe_has_one_view_on_each_side(session):
    session.change(layout="wipe", view=SCAN, other=TRUTH, wipe=0.5)
    camera = session.camera()
    (pane,) = session.panes(camera)
    along = room().points.double() @ camera.camera_to_world[:3, 0]
    first = along < (along.min() + along.max()) / 2 - 1e-6
    second = along > (along.min() + along.max()) / 2 + 1e-6
    assert torch.equal(pane.colors[first], room().colors[first])
    truth = session.content.coloring(TRUTH).colors
    assert torch.equal(pane.colors[second], truth[second])
    session.change(wipe=0.0)
    assert torch.equal(session.panes(camera)[0].colors, truth)


def test_hidden_classes_and_the_ceiling_are_not_drawn(session):
    session.change(view=TRUTH, hide_ceiling=False)
    assert bool(panes(session)[0].shown.all())
    session.change(hidden=frozenset({FLOOR}))
    assert torch.equal(panes(session)[0].shown, room().labels != FLOOR)
    session.change(hidden=frozenset(), hide_ceiling=True)
    shown = panes(session)[0].shown
    assert not bool(shown[ceiling_point()])
    assert bool(shown[sofa_point()])


def test_an_answer_is_a_view_of_its_own_until_the_text_is_empty(session):
    before = session.state.view
    session.ask("  couch ")
    assert session.state.view == ANSWER
    assert session.response is None  # nobody looked for places yet
    session.find_places()
    assert session.response.answers[0].looks_like == "sofa"
    assert session.response.scene.name == session.content.name
    colors = panes(session)[0].colors
    labels = room().labels
    reddest = colors[:, 0].int() - colors[:, 2].int()
    assert int(reddest[labels == SOFA].min()) > int(reddest[labels == WALL].max())
    session.ask("")
    assert session.response is None
    assert session.answer is None
    assert ANSWER not in session.views
    assert session.state.view == before


def test_an_answer_stands_beside_the_others(session):
    session.change(layout="side by side", beside=(SCAN, TRUTH))
    session.ask("couch")
    assert session.state.beside == (SCAN, TRUTH, ANSWER)
    session.ask("")
    assert session.state.beside == (SCAN, TRUTH)


def test_a_question_is_answered_by_the_method_that_is_shown(session):
    session.change(view="teacher:demo-masks")
    session.ask("couch")
    assert session.answered_by == "teacher:demo-masks"
    session.ask("couches")  # while one types on
    assert session.answered_by == "teacher:demo-masks"
    session.ask("")
    assert session.state.view == "teacher:demo-masks"


def test_unknown_words_are_an_error_or_named(session):
    with pytest.raises(ConfigError, match="no word that the text encoder knows"):
        session.ask("qwrtzpl")
    session.ask("couch")
    with pytest.raises(ConfigError, match="no word that the text encoder knows"):
        session.ask("qwrtzpl")
    assert session.text == "couch"  # its answer stays
    assert session.ignored_words() == ()
    session.ask("couch qwrtzpl")
    assert session.ignored_words() == ("qwrtzpl",)


def test_a_click_finds_the_point_in_whatever_copy(session):
    point = sofa_point()
    session.change(layout="side by side", beside=(SCAN, TRUTH))
    for pane in panes(session):
        place = room().points[point].numpy() + pane.offset
        eye = tuple((place + np.array([0.4, 0.3, 3.0])).tolist())
        towards = (-0.4, -0.3, -3.0)
        assert session.pick(panes(session), eye, towards, eye) == point
    assert session.pick(panes(session), (0, 0, 50), (0, 0, 1), (0, 0, 50)) is None


def test_a_hidden_ceiling_and_walls_seen_from_behind_are_clicked_through(session):
    point, eye = sofa_point(), (3.0, -6.0, 2.4)
    place = room().points[point].tolist()
    towards = tuple(a - b for a, b in zip(place, eye, strict=True))
    met = session.pick(panes(session), eye, towards, eye)
    assert float((room().points[met] - room().points[point]).norm()) < 0.3  # a flat look
    session.change(hide_walls=False)
    met = session.pick(panes(session), eye, towards, eye)
    assert room().points[met, 1] == 0  # the wall in between


def test_why_names_teachers_weights_classes_and_frames(session):
    session.content.coloring(TRUTH)
    point = sofa_point()
    found = session.explain(point)
    dense, masks = found.teachers.votes
    assert (dense.word, masks.word) == ("sofa", "bed")
    assert (dense.capability, masks.capability) == (pytest.approx(0.9), pytest.approx(0.6))
    # both classes' skills are those of the teacher: softmax of 0.9 and 0.6 at 0.05 (Eq. 8)
    assert dense.weight == pytest.approx(1 / (1 + math.exp(-0.3 / 0.05)), abs=1e-5)
    assert found.teachers.fused == "sofa"
    assert dict(found.said)[TRUTH] == "sofa"
    assert found.position == pytest.approx(room().points[point].tolist())


def test_a_distance_is_between_two_points_and_a_third_begins_anew(session):
    a, b = sofa_point(), ceiling_point()
    assert session.measure(a) is None
    expected = float((room().points[a] - room().points[b]).norm())
    assert session.measure(b) == pytest.approx(expected)
    assert session.measure(a) is None
    assert len(session.measured) == 1


def test_places_are_where_the_answers_are_in_the_frame_of_the_scene(session):
    assert session.places() == []
    session.ask("couch")
    session.find_places()
    sofa = room().points[room().labels == SOFA]
    middle = (sofa.amin(dim=0) + sofa.amax(dim=0)) / 2
    assert session.places()[0] == pytest.approx(middle.tolist(), abs=1e-4)
    turned = torch.tensor([[0.0, -1, 0, 500], [1, 0, 0, -20], [0, 0, 1, 7], [0, 0, 0, 1]]).double()
    provenance = {"scene_to_source": turned.tolist()}
    scene = replace(session.response.scene, provenance=provenance)
    moved = turned[:3, :3] @ middle.double() + turned[:3, 3]
    answer = replace(session.response.answers[0], position=tuple(moved.tolist()))
    session.response = replace(session.response, scene=scene, answers=(answer,))
    assert session.places()[0] == pytest.approx(middle.tolist(), abs=1e-4)


def test_another_scene_is_asked_the_same(session):
    session.ask("couch")
    session.choose_scene(OTHER_SCENE)
    assert session.content.name == OTHER_SCENE
    assert session.answer is not None
    session.find_places()
    assert session.response.scene.name == OTHER_SCENE
    with pytest.raises(ConfigError, match="unknown scene 'home'"):
        ViewerSession(session.run, "home")


def test_too_many_views_side_by_side_are_refused(session):
    with pytest.raises(ConfigError, match="side by side, expected 6 at most"):
        session.change(beside=session.views[:7])


def test_shares_are_those_of_all_points(session):
    shares = dict(session.class_shares(session.content.coloring(TRUTH)))
    assert shares[SOFA] == pytest.approx(64 / 2170)
    assert list(shares) == [WALL, FLOOR, SOFA]


def test_a_run_that_only_has_scans_shows_them(tmp_path):
    folder = write_run(tmp_path / "run", truth=False, frames=False, lifted=False, scenes=1)
    bare = ViewerSession(open_run(folder))
    assert bare.views == (SCAN,)
    assert panes(bare)[0].title == SCAN
    assert bare.labelled is None
    with pytest.raises(ConfigError, match="finish the run with pcdistill run"):
        bare.ask("couch")
    found = bare.explain(sofa_point())
    assert (found.teachers, found.said, found.crops) == (None, (), ())


def test_a_run_without_scenes_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("ingest: {source: homes, train: 1, validation: 1}\n")
    with pytest.raises(ArtifactError, match="none of the 2 scenes is there yet"):
        ViewerSession(open_run(tmp_path))
    with pytest.raises(ConfigError, match=r"found no config\.yaml"):
        open_run(tmp_path / "nowhere")
