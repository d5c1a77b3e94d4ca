"""TAP: a network that describes regions of an image, with its official checkpoints."""

from pcdistill.teachers.captions.tap.describer import TapDescriber

__all__ = ["TapDescriber"]
