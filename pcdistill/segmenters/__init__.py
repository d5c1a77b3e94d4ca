"""Segmenters: from an image and prompts to masks, without knowing what is shown."""

from pcdistill.segmenters.box_outlines import BoxOutliner
from pcdistill.segmenters.prompt_checks import check_point_prompts
from pcdistill.segmenters.region_graph import RegionGraph, region_graph
from pcdistill.segmenters.segment_anything import SegmentAnythingSegmenter
from pcdistill.segmenters.superpixel import SuperpixelSegmenter

__all__ = [
    "BoxOutliner",
    "RegionGraph",
    "SegmentAnythingSegmenter",
    "SuperpixelSegmenter",
    "check_point_prompts",
    "region_graph",
]
