"""Capability of teachers: how well each finds each class, measured without annotations."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.capability.attention import AttentionAccumulator, aggregate_attention
    from pcdistill.capability.baselines import binary_capability, shuffled_capability
    from pcdistill.capability.diffusion_settings import DiffusionSettings
    from pcdistill.capability.interfaces import (
        BatchGenerator,
        GeneratedImage,
        ImageGenerator,
        Segmenter,
        SynthesisSetup,
        generate_batch,
    )
    from pcdistill.capability.masks import binarize_attention, clean_mask, mask_iou
    from pcdistill.capability.overlaps import ImageOverlaps
    from pcdistill.capability.point_prompts import prompt_points
    from pcdistill.capability.pseudo_masks import NoMask, coarse_mask, pseudo_mask
    from pcdistill.capability.registry import build_generator, build_segmenter
    from pcdistill.capability.score import CapabilityMeter, score_teacher
    from pcdistill.capability.table import (
        CapabilityTable,
        TeacherScores,
        scores_from_json,
        scores_to_json,
        table_from_json,
        table_to_json,
    )

__all__ = [
    "AttentionAccumulator",
    "BatchGenerator",
    "CapabilityMeter",
    "CapabilityTable",
    "DiffusionSettings",
    "GeneratedImage",
    "ImageGenerator",
    "ImageOverlaps",
    "NoMask",
    "Segmenter",
    "SynthesisSetup",
    "TeacherScores",
    "aggregate_attention",
    "binarize_attention",
    "binary_capability",
    "build_generator",
    "build_segmenter",
    "clean_mask",
    "coarse_mask",
    "generate_batch",
    "mask_iou",
    "prompt_points",
    "pseudo_mask",
    "score_teacher",
    "scores_from_json",
    "scores_to_json",
    "shuffled_capability",
    "table_from_json",
    "table_to_json",
]

__getattr__ = lazy_face(__name__, __file__)
