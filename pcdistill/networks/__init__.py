"""The student networks: the MinkUNet family, to and from disk."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
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

__getattr__ = lazy_face(__name__, __file__)
