"""What must not be read into the numbers of a run: by what its teachers were trained on."""

from __future__ import annotations

import pytest

from pcdistill.reporting.run_description import ReportSettings, StudentFacts, notes


def settings(homes=None, taught_by=()):
    student = StudentFacts("MinkUNet14A", "color", taught_by=taught_by)
    return ReportSettings("a run", (), (), (), (), 0, student, homes)


@pytest.mark.parametrize(
    ("teachers", "taught_by", "said", "not_said"),
    [
        (("detector",), (), ("trained on photographs",), ("rendered homes",)),
        (("demo-dense", "demo-masks"), (), ("trained on rendered homes",), ("photographs",)),
        (("demo-masks", "detector"), (), ("rendered homes", "trained on photographs"), ()),
        ((), ("detector",), ("trained on photographs",), ("rendered homes",)),
        ((), ("demo-dense",), ("learned from teachers", "rendered homes"), ("photographs",)),
        ((), (), (), ("trained",)),
    ],
)
def test_a_scan_s_report_says_what_was_trained_on_what(teachers, taught_by, said, not_said):
    text = " ".join(notes(teachers, settings(taught_by=taught_by)))
    assert all(part in text for part in said)
    assert not any(part in text for part in not_said)


def test_on_homes_a_teacher_of_photographs_is_named_beside_the_others():
    alone = notes(("demo-dense",), settings("test"))
    both = notes(("demo-dense", "detector"), settings("test"))
    assert both[: len(alone)] == alone
    assert "photographs" in both[-1]
