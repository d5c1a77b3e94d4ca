"""Segmenters: from an image and prompts to masks, without knowing what is shown."""

from pcdistill.segmenters.box_outlines import BoxOutliner
from pcdistill.segmenters.region_graph import RegionGraph, region_graph
from pcdistill.segmenters.superpixel import SuperpixelSegmenter

__all__ = ["BoxOutliner", "RegionGraph", "SuperpixelSegmenter", "region_graph"]
