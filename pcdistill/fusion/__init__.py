"""Fusion of views and teachers into one feature per point."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.fusion.accumulator import MultiViewAccumulator, PointFeatures
    from pcdistill.fusion.baselines import average_features, linear_features
    from pcdistill.fusion.classify import predict_labels
    from pcdistill.fusion.ensemble import ensemble_features
    from pcdistill.fusion.fuse import fuse_features
    from pcdistill.fusion.weights import FusionMode, fusion_weights

__all__ = [
    "FusionMode",
    "MultiViewAccumulator",
    "PointFeatures",
    "average_features",
    "ensemble_features",
    "fuse_features",
    "fusion_weights",
    "linear_features",
    "predict_labels",
]
__getattr__ = lazy_face(__name__, __file__)
