"""The student networks: the MinkUNet family, to and from disk."""

from pcdistill.networks.architectures import LAYERS, PLANES, Architecture
from pcdistill.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from pcdistill.networks.mink_unet import ENGINES, MinkUNet, build_student

__all__ = [
    "ENGINES",
    "LAYERS",
    "PLANES",
    "Architecture",
    "Checkpoint",
    "MinkUNet",
    "build_student",
    "load_checkpoint",
    "save_checkpoint",
]
