"""The student networks: the MinkUNet family."""

from pcdistill.networks.architectures import LAYERS, PLANES, Architecture
from pcdistill.networks.mink_unet import MinkUNet, build_student

__all__ = ["LAYERS", "PLANES", "Architecture", "MinkUNet", "build_student"]
