"""Fusion of views and teachers into one feature per point."""

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
