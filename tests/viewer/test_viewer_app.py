"""The viewer's server without a browser: it ends when it cannot begin, and what it draws."""

from __future__ import annotations

import re
import socket
from types import SimpleNamespace

import pytest

from pcdistill.errors import ArtifactError
from pcdistill.inference import open_run
from pcdistill.viewer import ViewerApp, ViewerSession, viewer_app
from pcdistill.viewer.scene_content import ANSWER
from tests.fixtures.viewer_run import TEACHERS, write_run


def test_a_run_that_lacks_a_file_leaves_no_server_behind(tmp_path):
    folder = write_run(tmp_path / "run", scenes=1)
    session = ViewerSession(open_run(folder))
    session.run.artifacts.workspace.capability(TEACHERS[0]).unlink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ArtifactError, match="is missing"):
        ViewerApp(session, port=port)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


@pytest.fixture
def app(session):
    app = ViewerApp(session, port=0)
    yield app
    app.close()


def drawn(app):
    """Text of the panel on how many points are drawn."""
    return app.panel.drawn.content


def test_places_follow_the_heat_map_and_errors_are_told(app):
    app.ask("couch")
    assert app.session.state.view == ANSWER
    assert "sofa" in app.panel.answer.content
    numbers = [app.server.scene.get_handle_by_name(f"/places/0/{rank}") for rank in (1, 2)]
    assert numbers[0].text == "1"
    assert numbers[0].position == pytest.approx(app.session.places()[0])
    assert len(app.session.places()) > 1 or numbers[1] is None
    app.ask("qwrtzpl")
    assert "no word that the text encoder knows" in app.panel.answer.content
    app.ask("")
    assert app.panel.answer.content == ""
    assert app.server.scene.get_handle_by_name("/places/0/1") is None


def test_a_page_begins_with_few_points_and_gets_all_once_somebody_looks(app, monkeypatch):
    monkeypatch.setattr(viewer_app, "START_POINTS", 500)
    app.draw()
    few = int(re.search(r"([0-9,]+) of 2,170", drawn(app))[1].replace(",", ""))
    assert few < 800
    watcher = SimpleNamespace(camera=SimpleNamespace(on_update=lambda callback: None))
    app._connected(watcher)
    app.draw()
    assert "2,170" not in drawn(app).split(" of ")[0]  # the ceiling stays away
    many = int(re.search(r"([0-9,]+) of 2,170", drawn(app))[1].replace(",", ""))
    assert many > 1000
    app._disconnected(watcher)
    app.draw()
    assert f"{few:,} of" in drawn(app)


def test_the_first_page_has_a_moment_to_itself_before_more_points_are_sent(app, monkeypatch):
    monkeypatch.setattr(viewer_app, "_ARRIVAL", 1000.0)
    watcher = SimpleNamespace(camera=SimpleNamespace(on_update=lambda callback: None))
    assert app._rest() == viewer_app._REST
    app._connected(watcher)
    first = app._dense_from
    assert app._rest() > 900
    app._connected(watcher)  # of a second one all points are there already
    assert app._dense_from == first


def test_trouble_in_a_callback_is_a_sentence_in_the_panel(app):
    def fail(event):
        raise ArtifactError("<b>a file is missing</b>")

    app.guarded(fail)(None)
    assert "&lt;b&gt;a file is missing" in app.panel.status.content
    app.guarded(lambda event: (_ for _ in ()).throw(OSError(28, "No space left", "x")))(None)
    assert "No space left" in app.panel.status.content
