"""Every reader of foreign files, each with whole files that it reads."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from pcdistill.artifacts.halfway_counts import HalfwayCounts, SceneCounts
from pcdistill.capability import CapabilityTable, ImageOverlaps, TeacherScores
from pcdistill.networks import build_student, load_checkpoint, save_checkpoint
from pcdistill.pipeline.artifact_files import read_provenance, read_tensors, write_tensors
from pcdistill.pipeline.capability_files import read_table, write_table
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.workspace import UnitRecord, Workspace
from pcdistill.pipeline.workspace_format import require_known_format, write_format
from pcdistill.scenes import Scene, load_label_set, load_vocabulary, write_ply
from pcdistill.scenes.formats.e57 import read_e57
from pcdistill.scenes.formats.exr import read_exr_depth, read_exr_size
from pcdistill.scenes.formats.images import read_color, read_depth, read_image_size
from pcdistill.scenes.formats.las import read_las, read_units
from pcdistill.scenes.formats.pcd import read_pcd, to_ply
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.formats.sens import open_sens
from pcdistill.scenes.label_files import read_label_file
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.detection import READERS
from pcdistill.teachers.embedding_cache import EmbeddingCache
from pcdistill.teachers.hub_parts import read_part_names
from pcdistill.teachers.state_dicts import load_state_dict
from tests.fixtures import (
    box_room,
    corrupt_files,
    e57_files,
    matterport_replica,
    nuscenes,
    scannet,
    scannetpp_arkitscenes,
    user_captures,
)
from tests.scenes.formats import test_las
from tests.scenes.readers.nuscenes.test_openscene import write_clip
from tests.scenes.readers.scannet.test_openscene import write_extracted

POINTS = box_room.wall_points(0.5)
LABELS = load_label_set("scannet20")


class Target(NamedTuple):
    """A reader, what it reads, and how often it is tried."""

    write: Callable[[Path], Path]
    """Writes whole files into an empty folder; returns what is given to the reader."""
    read: Callable[[Path], object]
    """Reads, and looks at what came."""
    share: int = 1
    """Of the inputs, beside those of the other readers."""
    needs: str = ""
    """A package without which there is nothing to read with."""

    forgives: bool = False
    """Whether damage counts as never written, and is made anew without a word."""

    @property
    def is_there(self) -> bool:
        """Whether the package is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def examine(scene: Scene) -> None:
    """A right scene: what of it is not finite or has the wrong shape is no result."""
    assert torch.isfinite(scene.points).all()
    for frame in scene.frames[:3]:
        assert torch.isfinite(frame.camera_to_world).all()
        assert torch.isfinite(frame.intrinsics).all()
        assert frame.image().shape == (*frame.image_size, 3)
        depth = frame.depth()
        assert depth is None or depth.shape == frame.image_size
        assert depth is None or bool((torch.isfinite(depth) & (depth >= 0)).all())


def cloud(found) -> None:
    """A right cloud, whose further columns are as long; scenes leave out what is not finite."""
    count = len(found.points)
    assert found.points.shape == (count, 3)
    for values in (found.colors, found.normals):
        assert values is None or len(values) == count
    assert all(len(values) == count for values in found.scalars.values())
    if found.faces is not None and len(found.faces):
        assert 0 <= int(found.faces.min()) <= int(found.faces.max()) < count


def one_file(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return write


def written(name: str, write_to: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_to(folder / name)
        return folder / name

    return write


def image_bytes(kind: str, pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


COLORS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
COUNTS = (1000 + 10 * np.arange(24 * 32).reshape(24, 32)).astype(np.uint16)


def ply_ascii() -> bytes:
    rows = [f"{x:g} {y:g} {z:g} 10 20 30" for x, y, z in POINTS[:20]]
    head = "ply\nformat ascii 1.0\nelement vertex 20\n" + "".join(
        f"property {kind} {name}\n"
        for kind, name in (
            *(("float", "x"), ("float", "y"), ("double", "z")),
            *(("uchar", "red"), ("uchar", "green"), ("uchar", "blue")),
        )
    )
    tail = "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    return (head + tail + "\n".join(rows) + "\n3 0 1 2\n4 1 2 3 4\n").encode()


def ply_binary(path: Path) -> None:
    faces = torch.arange(30).reshape(10, 3)
    write_ply(
        path,
        torch.from_numpy(POINTS[:40]).float(),
        faces=faces,
        labels=torch.arange(40),
    )


def e57(path: Path) -> None:
    fields = {
        f"cartesian{a}": e57_files.Field(POINTS[:50, i], -1e9, 1e9) for i, a in enumerate("XYZ")
    }
    colors = {
        name: e57_files.Field(np.arange(50) % 256, 0, 255, "integer")
        for name in ("colorRed", "colorGreen", "colorBlue")
    }
    e57_files.write(importlib.import_module("pye57"), path, [e57_files.Scan(fields | colors)])


def sens(path: Path) -> None:
    path.write_bytes(scannet.sens_bytes(scannet.room_frames()[:2]))


def read_sens(path: Path) -> None:
    opened = open_sens(path)
    for record in opened.records:
        assert opened.color(record).ndim == 3
        assert opened.depth_counts(record).ndim == 2


def las(path: Path) -> None:
    test_las.write(path, POINTS[:50], np.full((50, 3), 30000))


def npz(path: Path) -> None:
    names = np.array(LABELS.names)
    np.savez_compressed(path, labels=np.arange(40) % 20, points=POINTS[:40], class_names=names)


def label_file(path: Path) -> None:
    for role in ("true", "predicted"):
        found = read_label_file(path, LABELS, role).labels
        assert bool(((found >= -2) & (found < len(LABELS.names))).all())


CONFIG = """\
run: {title: a run, workspace: runs/x, teachers: [demo-dense, demo-masks], seed: 3}
ingest:
  path: scans
  frame_step: 2
  image_size: [240, 320]
lift: {occlusion: depth, depth_tolerance: 0.25}
distill: {epochs: 3, learning_rate: 1.0e-3, voxel_size: 0.05, augment: full}
report: {queries: [a chair, "a bed"], scenes: []}
"""


def label_set(folder: Path) -> Path:
    content = {
        "categories": [
            {"name": "bed", "color": [1, 2, 3], "id": 4, "group": "head"},
            {"name": "door", "color": [4, 5, 6], "id": 7, "group": "tail"},
        ],
        "prompts": [{"name": "a bed", "category": "bed"}, {"name": "a door", "category": "door"}],
        "ignore_label": 255,
    }
    (folder / "own.json").write_text(json.dumps(content))
    return folder / "own.json"


def table(path: Path) -> None:
    overlaps = {word: ImageOverlaps((3, 0), (10, 7)) for word in ("wall", "chair")}
    rows = {"a": TeacherScores("1", overlaps, ("wall",), provenance={"revision": "1"})}
    prompts = {word: f"a {word}" for word in overlaps}
    write_table(path, CapabilityTable("static", prompts, {"settings": {}, "provenance": {}}, rows))


def student(path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(path, build_student("MinkUNet14A", 3, 8, width=0.0625), {"scenes": ["a"]})


def reference_student(path: Path) -> None:
    torch.manual_seed(0)
    network = build_student("MinkUNet14A", 3, 8, width=0.0625)
    save_checkpoint(path, network, {}, layout="minkowski")


def weights(path: Path) -> None:
    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(2, dtype=torch.float16)}
    torch.save({"state_dict": state, "epoch": 3}, path)


def old_weights(path: Path) -> None:
    state = {"a.weight": torch.ones(3, 2)}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": {"a": np.ones((3, 2), np.float32), "b": 3}}))


def script(path: Path) -> None:
    torch.jit.script(torch.nn.Linear(3, 2)).save(str(path))


def artefact(path: Path) -> None:
    write_tensors(path, {"a": torch.ones(3), "b": torch.zeros(2, 2).half()}, {"teacher": "x"})


def read_artefact(path: Path) -> None:
    assert isinstance(read_provenance(path), dict)
    for values in read_tensors(path).values():
        assert isinstance(values, torch.Tensor)


def manifest(folder: Path) -> Path:
    record = UnitRecord("ab", "done", "wrote", 1.0, {"a/b": 3}, {"torch": "2"}, {"a/b": "0"})
    Workspace(folder).write_record("lift", "unit", record)
    return folder


def read_manifest(folder: Path) -> None:
    record = Workspace(folder).record("lift", "unit")
    if record is not None:
        assert all(".." not in name and not name.startswith("/") for name in record.outputs)
        Workspace(folder).outputs_intact(record)


def format_note(folder: Path) -> Path:
    write_format(folder)
    return folder


def embeddings(folder: Path) -> Path:
    EmbeddingCache(folder, "model", "1", 4).put("a bed", torch.ones(4))
    return folder


def read_embeddings(folder: Path) -> None:
    found = EmbeddingCache(folder, "model", "1", 4).get("a bed")
    assert found is None or found.shape == (4,)


def halfway(folder: Path) -> Path:
    counts = torch.arange(12).reshape(4, 3)
    HalfwayCounts(folder, "m", 3).save("scene", SceneCounts((counts,), {2: (counts[:3, :2],)}))
    return folder


def read_halfway(folder: Path) -> None:
    found = HalfwayCounts(folder, "m", 3).load("scene")
    assert found is None or all(draw.shape == (4, 3) for draw in found.draws)


def scan(name: str, write: Callable[[Path], Path], share: int = 1, **settings: object) -> Target:
    """A reader of whole captures: what it finds in the folder is opened."""
    reader, wanted = READERS[name], ReaderSettings(**settings)

    def read(folder: Path) -> None:
        for found in reader.find(folder)[:1]:
            examine(reader.open(found, wanted))

    return Target(write, read, share)


def surface(folder: Path) -> Path:
    write_ply(folder / "walls.ply", torch.from_numpy(box_room.wall_points(0.3)).float())
    return folder


def bare(folder: Path) -> Path:
    ply_binary(folder / "a.ply")
    return folder / "a.ply"


def matterport(folder: Path) -> Path:
    return matterport_replica.write_coarse_house(folder, count=4)


def drive(folder: Path) -> Path:
    nuscenes.write_drive(folder / "drive")
    return folder / "drive"


def index(path: Path) -> None:
    path.write_text(json.dumps({"weight_map": {"a": "b.safetensors", "c": "d.safetensors"}}))


def npy(path: Path) -> None:
    np.save(path, COUNTS.astype(np.float32) / 1000)


def depth(path: Path) -> None:
    read_image_size(path)
    metres = read_depth(path, depth_scale=1000.0)
    assert bool((torch.isfinite(metres) & (metres >= 0)).all())


def color(path: Path) -> None:
    read_image_size(path)
    assert read_color(path).dtype == torch.uint8


def exr(compression: str) -> Callable[[Path], Path]:
    metres = (COUNTS / 1000).astype(np.float32)
    return one_file("a.exr", lambda: user_captures.exr(metres, compression))


def read_exr(path: Path) -> None:
    metres = read_exr_depth(path)
    assert metres.shape == read_exr_size(path)


def foreign_safetensors(path: Path) -> None:
    save_file({"a": torch.ones(3), "b": torch.zeros(2, 2)}, path)


TARGETS: dict[str, Target] = {
    "ply text": Target(one_file("a.ply", ply_ascii), lambda p: cloud(read_ply(p)), 8),
    "ply binary": Target(written("a.ply", ply_binary), lambda p: cloud(read_ply(p)), 8),
    **{
        f"pcd {encoding}": Target(
            one_file("a.pcd", lambda encoding=encoding: user_captures.pcd(POINTS, encoding)),
            lambda p: cloud(to_ply(read_pcd(p))),
            4,
        )
        for encoding in ("ascii", "binary", "binary_compressed")
    },
    "las": Target(written("a.las", las), lambda p: (cloud(read_las(p)), read_units(p)), 6, "laspy"),
    "laz": Target(written("a.laz", las), lambda p: (cloud(read_las(p)), read_units(p)), 4, "lazrs"),
    "e57": Target(written("a.e57", e57), lambda p: cloud(read_e57(p)), 4, "pye57"),
    "sens": Target(written("a.sens", sens), read_sens, 8),
    "exr zip": Target(exr("ZIP"), read_exr, 3),
    "exr runs": Target(exr("RLE"), read_exr, 3),
    "jpeg": Target(one_file("a.jpg", lambda: image_bytes("JPEG", COLORS)), color, 4),
    "png": Target(one_file("a.png", lambda: image_bytes("PNG", COLORS)), color, 4),
    "depth png": Target(one_file("a.png", lambda: image_bytes("PNG", COUNTS)), depth, 4),
    "depth npy": Target(written("a.npy", npy), depth, 4),
    "configuration": Target(one_file("a.yaml", CONFIG.encode), load_config, 12),
    "label set": Target(label_set, load_label_set, 6),
    "vocabulary": Target(label_set, load_vocabulary, 3),
    "capability table": Target(written("a.json", table), read_table, 6),
    "labels npz": Target(written("a.npz", npz), label_file, 4),
    "labels txt": Target(one_file("a.txt", lambda: b"1\n2\n3\n39\n" * 5), label_file, 2),
    "student": Target(written("a.safetensors", student), load_checkpoint, 4),
    "student of the reference": Target(written("a.pth", reference_student), load_checkpoint, 3),
    "weights": Target(written("a.pth", weights), load_state_dict, 5),
    "weights before zip": Target(written("a.pth", old_weights), load_state_dict, 4),
    "weights as a pickle": Target(written("a.pkl", plain_pickle), load_state_dict, 5),
    "weights as a program": Target(written("a.pt", script), load_state_dict, 4),
    "weights as safetensors": Target(
        written("a.safetensors", foreign_safetensors), load_state_dict, 3
    ),
    "index of weights": Target(written("a.json", index), read_part_names, 3),
    "artefact": Target(written("a.safetensors", artefact), read_artefact, 4),
    "manifest": Target(manifest, read_manifest, 5, forgives=True),
    "format of a workspace": Target(format_note, require_known_format, 2),
    "embeddings": Target(embeddings, read_embeddings, 2, forgives=True),
    "halfway counts": Target(halfway, read_halfway, 3, forgives=True),
    "bare": scan("bare", bare, 5),
    "rgbd": scan("rgbd", lambda f: box_room.write_scan(f / "scan", 2), 4),
    "tum": scan(
        "tum",
        lambda f: surface(user_captures.write_tum(f / "scan", 2)),
        3,
        surface_file="walls.ply",
    ),
    "record3d": scan(
        "record3d",
        lambda f: surface(user_captures.write_record3d(f / "scan", 2, depth="blob")),
        3,
        surface_file="walls.ply",
    ),
    "nerfstudio": scan("nerfstudio", lambda f: user_captures.write_nerfstudio(f / "scan", 2), 4),
    "colmap": scan(
        "colmap",
        lambda f: surface(user_captures.write_colmap(f / "scan", 2, depth=True)),
        4,
        surface_file="walls.ply",
    ),
    "colmap text": scan(
        "colmap", lambda f: user_captures.write_colmap(f / "scan", 2, binary=False), 4
    ),
    "scannet": scan("scannet", lambda f: scannet.write_scannet(f), 4),
    "scannet extracted": scan(
        "scannet_extracted", lambda f: write_extracted(f / "data", count=3), 4
    ),
    "scannetpp": scan(
        "scannetpp", lambda f: scannetpp_arkitscenes.write_scannetpp(f / "scan", 3, iphone=False), 3
    ),
    "scannetpp video": scan(
        "scannetpp", lambda f: scannetpp_arkitscenes.write_scannetpp(f / "scan", 3, dslr=False), 3
    ),
    "arkitscenes": scan(
        "arkitscenes", lambda f: scannetpp_arkitscenes.write_arkitscenes(f / "410", 2), 3
    ),
    "matterport": scan("matterport", matterport, 4, image_size=(30, 40)),
    "replica": scan("replica", lambda f: matterport_replica.write_replica(f, count=3), 4),
    "nuscenes": scan("nuscenes", drive, 5),
    "nuscenes clips": scan(
        "nuscenes_clips", lambda f: write_clip(f / "val" / "scene-0001").parents[1], 4
    ),
    "stored": scan("stored", corrupt_files.stored, 5),
}
"""By name; of each reader at least one."""
