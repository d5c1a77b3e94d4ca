"""Stages: one module each, in the order in which data flows through them."""

from typing import ClassVar

from pcdistill.pipeline import Stage
from pcdistill.stages.distill import DistillStage
from pcdistill.stages.evaluate import EvaluateStage
from pcdistill.stages.fuse import FuseStage
from pcdistill.stages.ingest import IngestStage
from pcdistill.stages.lift import LiftStage
from pcdistill.stages.partition import PartitionStage
from pcdistill.stages.report import ReportOfStages
from pcdistill.stages.score import ScoreStage
from pcdistill.stages.synthesize import SynthesizeStage

_BEFORE_REPORT: tuple[type[Stage], ...] = (
    IngestStage,
    PartitionStage,
    LiftStage,
    SynthesizeStage,
    ScoreStage,
    FuseStage,
    DistillStage,
    EvaluateStage,
)


class ReportStage(ReportOfStages):
    """Stage report, which tells the time and the disk of all stages before it."""

    before: ClassVar[tuple[type[Stage], ...]] = _BEFORE_REPORT


STAGES: tuple[type[Stage], ...] = (*_BEFORE_REPORT, ReportStage)
"""All of them; a stage needs only stages before it."""

__all__ = [
    "STAGES",
    "DistillStage",
    "EvaluateStage",
    "FuseStage",
    "IngestStage",
    "LiftStage",
    "PartitionStage",
    "ReportStage",
    "ScoreStage",
    "SynthesizeStage",
]
