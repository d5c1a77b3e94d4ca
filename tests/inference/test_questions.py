"""Questions with words that the text encoder does not know."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.inference import text_query as query_module
from pcdistill.inference.pieces import Pieces
from pcdistill.inference.questions import Question, embed_question, known_words
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.scenes import Scene
from tests.fixtures.runs import finished_run
from tests.teachers.test_known_words import UNKNOWN


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with a chair and a bathtub of 40 points each."""
    run = RunContext(config_from_dict({"run": {"workspace": str(tmp_path)}}, "test"))
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(80, 3, generator=generator) + 10.0 * (torch.arange(80) >= 40)[:, None]
    ids = (torch.arange(80) >= 40).long()
    pieces = Pieces(ids, run.text_encoder.encode(["chair", "bathtub"]))
    monkeypatch.setattr(query_module, "open_stored_scene", lambda *_: Scene("flat", points))
    monkeypatch.setattr(query_module.ScenePieces, "features", lambda *_: pieces)
    monkeypatch.setattr(query_module, "stored_scenes", lambda *_: ("flat",))
    return run


@pytest.mark.parametrize("letter", ["\udcff", "\n", "\0", "\x1b"])
def test_a_question_that_is_no_text_is_refused_before_anything_reads_it(letter):
    """A terminal gives bytes that it cannot decode as halves of letters."""
    for texts in ({"text": f"a{letter} chair"}, {"text": "a", "negatives": (f"b{letter}",)}):
        with pytest.raises(ConfigError, match=r"^the question '.*' has a line break, a control"):
            Question(**texts)
    assert Question("a\tchair").text == "a\tchair"
    assert Question("\u0915\u094d\u200d\u0937").text  # joiners are part of words


@pytest.mark.parametrize("word", UNKNOWN.values(), ids=UNKNOWN)
def test_a_question_of_unknown_words_is_refused(run, word):
    for text in (word, f"where is the {word}?"):
        with pytest.raises(ConfigError, match="has no word that the text encoder knows") as caught:
            finished_run(run).querier.query(text, draw="none")
        assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize("word", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_words_beside_known_ones_are_named_and_left_out(run, word, caplog):
    plain = finished_run(run).querier.query_scene("a red chair", "flat")
    for text in (f"a red chair {word}", f"{word}: a red chair"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            response = finished_run(run).querier.query(text, draw="none")
        assert response.ignored == (word,)
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith(f"the text encoder does not know '{word}', so that only the rest")
        found = finished_run(run).querier.query_scene(text, "flat")
        torch.testing.assert_close(found.relevancy, plain.relevancy, equal_nan=True)
        assert response.answers[0].looks_like == "chair"
        assert float(response.best_similarity) == pytest.approx(plain.best_similarity, abs=1e-6)


def test_known_questions_are_asked_without_a_word(run, caplog):
    assert finished_run(run).querier.query("a chair", draw="none").ignored == ()
    assert not caplog.records


def written(tmp_path, names) -> str:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(names))
    return str(path)


def run_of(**settings) -> RunContext:
    return RunContext(config_from_dict({"run": settings}, "test"))


@pytest.mark.parametrize("setting", ["vocabulary", "label_set"])
@pytest.mark.parametrize("word", ["стул", "椅子", "xyzzyq", "🪑", "42"])
def test_a_vocabulary_with_a_name_that_nobody_knows_is_refused(tmp_path, setting, word):
    """The prompt "a {}" has a known word whatever stands in it."""
    file = written(tmp_path, ["chair", word, "table"])
    run = run_of(**{"prompt": "a {}", setting: file})
    with pytest.raises(ConfigError, match=rf"run\.{setting} '.*mine\.json': the text '{word}' has"):
        run.validate()


def test_words_unknown_beside_others_are_told_of_once(tmp_path, caplog):
    run = run_of(label_set=written(tmp_path, ["chair", "стул table", "faucet", "sofa стул"]))
    run.validate()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("run.label_set")
    assert "the text encoder does not know 'стул', 'faucet'; such words" in lines[0]


def test_words_of_the_run_itself_can_be_asked_for(tmp_path):
    run = run_of(vocabulary=written(tmp_path, ["faucet", "sofa"]))
    assert known_words(run.words, "the faucet").known == ("faucet",)
    with pytest.raises(ConfigError, match="has no word"):
        known_words(run.words, "the radiator")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("sofa", "sofa"),
        ("a couch", "sofa"),
        ("the kitchen sink", "sink"),
        ("a place to sleep", "bed"),
        ("a place to sit", "chair"),
        ("tree", None),
        ("a swimming pool", None),
        ("an umbrella", None),
        ("truck", None),
    ],
)
def test_a_place_may_look_like_a_word_only_if_a_text_names_or_describes_it(text, word):
    """Every name is nearest to some word of the vocabulary, a tree to a door."""
    words = run_of(prompt="a {}").words
    asked = embed_question(words, Question(text))
    expected = set() if word is None else {words.vocabulary.index(word)}
    assert asked.looked_like == expected
    assert asked.looked_like <= asked.meant


@pytest.mark.parametrize("prompt", ["a {}", "a {} in a scene", "the {} of a furnished room"])
def test_whether_a_name_means_a_word_does_not_depend_on_the_prompt(prompt):
    """Questions are asked without it."""
    words = run_of(prompt=prompt).words
    found = [embed_question(words, Question(text)).looked_like for text in ("couch", "tree")]
    assert found == [{words.vocabulary.index("sofa")}, set()]
