"""The report names the weights of teachers and text encoder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pcdistill.reporting.collect import report_provenance


@pytest.mark.parametrize("own", [True, False])
def test_teachers_and_text_encoder_are_told_with_revision_and_license(own):
    encoder = SimpleNamespace(text_space="clip-vit-b-32")
    if own:
        encoder.provenance = {"revision": "40d365715913", "licence": "MIT"}
    teacher = SimpleNamespace(provenance={"revision": "abc", "licence": "Apache-2.0"})
    run = SimpleNamespace(
        find_device=lambda: "cpu",
        words=SimpleNamespace(text_encoder=encoder),
        teachers=("lseg",),
        point_features=SimpleNamespace(load_teacher=lambda name: teacher),
    )
    found = report_provenance(run, SimpleNamespace(given=""))
    assert found["teacher lseg"] == "revision: abc, licence: Apache-2.0"
    assert found["text space"] == "clip-vit-b-32"
    expected = "revision: 40d365715913, licence: MIT" if own else None
    assert found.get("text encoder") == expected
