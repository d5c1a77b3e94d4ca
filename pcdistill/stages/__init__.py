"""Stages: one module each, in the order in which data flows through them."""

from pcdistill.pipeline import Stage
from pcdistill.stages.distill import DISTILL
from pcdistill.stages.evaluate import EVALUATE
from pcdistill.stages.fuse import FUSE
from pcdistill.stages.ingest import INGEST
from pcdistill.stages.lift import LIFT
from pcdistill.stages.partition import PARTITION
from pcdistill.stages.report import make_report_stage
from pcdistill.stages.score import SCORE
from pcdistill.stages.synthesize import SYNTHESIZE

_BEFORE_REPORT = (INGEST, PARTITION, LIFT, SYNTHESIZE, SCORE, FUSE, DISTILL, EVALUATE)
REPORT = make_report_stage(_BEFORE_REPORT)
STAGES: tuple[Stage, ...] = (*_BEFORE_REPORT, REPORT)
"""All of them; a stage needs only stages before it."""

__all__ = [
    "DISTILL",
    "EVALUATE",
    "FUSE",
    "INGEST",
    "LIFT",
    "PARTITION",
    "REPORT",
    "SCORE",
    "STAGES",
    "SYNTHESIZE",
]
