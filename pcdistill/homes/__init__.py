"""Procedurally generated homes: labelled geometry, rendered camera paths, object images."""

from pcdistill.homes.camera_path import intrinsics_from_fov, plan_camera_path
from pcdistill.homes.classes import CLASS_INDEX, CLASSES, MATERIALS, NAMED_COLORS, NO_CLASS
from pcdistill.homes.collection import Collection
from pcdistill.homes.home import SPLITS, Home, Instance, Split, build_home
from pcdistill.homes.mesh import ScanMesh, scan_mesh
from pcdistill.homes.object_images import ObjectImage, render_object_image
from pcdistill.homes.object_in_room import object_in_room
from pcdistill.homes.render import Rendering, render
from pcdistill.homes.scanner import ScannerSettings
from pcdistill.homes.scene import GENERATION, LABEL_SET, home_scene
from pcdistill.homes.sensor import add_sensor_noise
from pcdistill.homes.surface import Surface

__all__ = [
    "CLASSES",
    "CLASS_INDEX",
    "GENERATION",
    "LABEL_SET",
    "MATERIALS",
    "NAMED_COLORS",
    "NO_CLASS",
    "SPLITS",
    "Collection",
    "Home",
    "Instance",
    "ObjectImage",
    "Rendering",
    "ScanMesh",
    "ScannerSettings",
    "Split",
    "Surface",
    "add_sensor_noise",
    "build_home",
    "home_scene",
    "intrinsics_from_fov",
    "object_in_room",
    "plan_camera_path",
    "render",
    "render_object_image",
    "scan_mesh",
]
