"""Questions of any letters: an answer's vectors, or one sentence."""

from __future__ import annotations

import math

import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pcdistill.errors import ConfigError
from pcdistill.inference.questions import Question, embed_question
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.workspace import question_slug

WORDS = RunContext(RunConfig()).words
LETTERS = st.characters(codec=None)  # halves of surrogate pairs too, as a shell may give them
texts = st.one_of(
    st.text(LETTERS, max_size=40),
    st.lists(
        st.one_of(st.sampled_from(["a chair", "bed", "not", "{}", "</s>"]), st.text(max_size=8)),
        max_size=4,
    ).map(" ".join),
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(texts, st.lists(texts, max_size=2), st.lists(texts, max_size=2), st.floats(allow_nan=True))
@example("a chair", ["\ud800"], [], 0.1)
@example("a\udcff chair", [], [], 0.1)
@example("chair " * 20_000, [], [], 0.1)
@example("\0", [], [], math.nan)
def test_any_question_is_embedded_or_refused_in_one_sentence(text, synonyms, negatives, least):
    refused = found = None
    try:
        question = Question(text, tuple(synonyms), tuple(negatives), least)
        found = embed_question(WORDS, question)
    except ConfigError as error:
        refused = str(error)
    if found is None:
        assert "\n" not in refused
        refused.encode()  # can be printed
        return
    assert torch.isfinite(found.queries).all()
    assert len(found.queries) == 1 + len(synonyms)
    assert len(found.negatives) == len(negatives)
    assert "/" not in question_slug(str(question))
