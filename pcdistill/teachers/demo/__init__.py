"""The demo's teachers: two small image networks with their weights."""

from pcdistill.teachers.demo.network import (
    DemoNetwork,
    NetworkShape,
    load_network,
    prepare_images,
    save_network,
)
from pcdistill.teachers.demo.teachers import DemoDenseTeacher, DemoMaskTeacher

__all__ = [
    "DemoDenseTeacher",
    "DemoMaskTeacher",
    "DemoNetwork",
    "NetworkShape",
    "load_network",
    "prepare_images",
    "save_network",
]
