"""All stages in the order in which data flows through them."""

from pcdistill.pipeline.stage import Stage
from pcdistill.stages.distill import DISTILL
from pcdistill.stages.evaluate import EVALUATE
from pcdistill.stages.fuse import FUSE
from pcdistill.stages.ingest import INGEST
from pcdistill.stages.lift import LIFT
from pcdistill.stages.partition import PARTITION
from pcdistill.stages.report import REPORT
from pcdistill.stages.score import SCORE
from pcdistill.stages.synthesize import SYNTHESIZE

STAGES: tuple[Stage, ...] = (
    INGEST,
    PARTITION,
    LIFT,
    SYNTHESIZE,
    SCORE,
    FUSE,
    DISTILL,
    EVALUATE,
    REPORT,
)
