"""The `.sens` container of ScanNet: one recorded RGB-D sequence, read frame by frame.

Version 4, little endian:

    u32 version, u64 length, sensor name
    4 x 16 f32   colour intrinsics, colour extrinsics, depth intrinsics, depth extrinsics, row-major
    i32 colour compression (0 raw, 1 PNG, 2 JPEG), i32 depth compression (0 raw, 1 zlib, 2 occi)
    u32 colour width, height, depth width, height; f32 depth units per metre; u64 frames
    per frame: 16 f32 camera-to-world, u64 time of colour, of depth (microseconds),
               u64 bytes of colour, of depth, then the two compressed images
    u64 IMU records, 128 bytes each

Extrinsics map a camera to the rig; usually the rig is the colour camera. Poses are those of the
depth camera. Frames whose tracking was lost have a pose of -inf.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import is_rigid
from pcdistill.scenes.formats.images import MAX_IMAGE_PIXELS

VERSION = 4
COLOR_COMPRESSIONS = {0: "raw", 1: "png", 2: "jpeg"}
DEPTH_COMPRESSIONS = {0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}

_MAX_NAME = 1 << 12
_MAX_FRAMES = 1 << 18  # two hours and a half of 30 frames a second
_FIXED = struct.Struct("<64f2i4IfQ")  # what follows the sensor's name
_FRAME = np.dtype(
    [
        ("pose", "<f4", (4, 4)),
        ("times", "<u8", (2,)),
        ("color_bytes", "<u8"),
        ("depth_bytes", "<u8"),
    ]
)
_IMU_BYTES = 128
_OVERHEAD = 1 << 16  # bytes that headers of a compressed image may add
_EXPANSION = 2  # how much more room than the plain pixels a compressed image may take
_MAX_BLOB = 1 << 28  # bytes, of one compressed image

Counts = np.ndarray[Any, np.dtype[np.uint16]]


class SensHeader(NamedTuple):
    """What a `.sens` file says of its sensor."""

    sensor: str
    color_intrinsics: Tensor
    """(3, 3) float64, pixels, for `color_size`."""
    color_to_rig: Tensor
    """(4, 4) float64, metres."""
    depth_intrinsics: Tensor
    """(3, 3) float64, pixels, for `depth_size`."""
    depth_to_rig: Tensor
    """(4, 4) float64, metres."""
    color_compression: str
    depth_compression: str
    color_size: tuple[int, int]
    """(H, W), pixels."""
    depth_size: tuple[int, int]
    """(H, W), pixels."""
    depth_scale: float
    """Counts per metre."""


class SensRecord(NamedTuple):
    """Where one frame lies in the file, and its pose."""

    number: int
    camera_to_world: Tensor
    """(4, 4) float64, metres, of the depth camera; -inf where tracking was lost."""
    times: tuple[int, int]
    """Microseconds, of colour and depth."""
    color_start: int
    """Byte of the file; depth follows directly."""
    color_bytes: int
    depth_bytes: int


@dataclass(frozen=True, eq=False)
class SensFile:
    """An indexed `.sens` file; images are read and decoded one at a time, in any order."""

    path: Path
    header: SensHeader
    records: tuple[SensRecord, ...]
    """Every `frame_step`-th frame."""
    frame_count: int
    """Frames in the file."""

    def color(self, record: SensRecord) -> Tensor:
        """(H, W, 3) uint8 of `color_size`, red green blue.

        Raises:
            SceneError: the file changed, or the image is damaged or of another size.
        """
        blob = self._blob(record, record.color_start, record.color_bytes)
        height, width = self.header.color_size
        if self.header.color_compression == "raw":
            self._require_bytes(record, "colour", len(blob), height * width * 3)
            pixels = np.frombuffer(blob, dtype=np.uint8).reshape(height, width, 3)
            return torch.from_numpy(pixels.copy())
        kind = self.header.color_compression.upper()
        try:
            with Image.open(io.BytesIO(blob), formats=(kind,)) as image:
                if image.size != (width, height):
                    raise SceneError(
                        f"{self.path}: the colour image of frame {record.number} is "
                        f"{image.width} x {image.height} pixels, its header says {width} x "
                        f"{height}; {_AGAIN}"
                    )
                return torch.from_numpy(np.array(image.convert("RGB")))
        except SceneError:
            raise
        except Exception as damage:  # the decoders raise a dozen unrelated types on damaged data
            reason = str(damage).split("\n")[0][:120] or type(damage).__name__
            raise SceneError(
                f"{self.path}: the colour image of frame {record.number} cannot be decoded as "
                f"{kind} ({reason}), it is damaged; {_AGAIN}"
            ) from damage

    def depth_counts(self, record: SensRecord) -> Counts:
        """(H, W) uint16 of `depth_size`, `depth_scale` counts per metre, 0 = unknown.

        Raises:
            SceneError: the file changed, or the image is damaged or of another size.
        """
        blob = self._blob(record, record.color_start + record.color_bytes, record.depth_bytes)
        height, width = self.header.depth_size
        expected = height * width * 2
        if self.header.depth_compression == "zlib_ushort":
            decoder = zlib.decompressobj()
            try:
                blob = decoder.decompress(blob, expected + 1)
            except zlib.error as damage:
                raise SceneError(
                    f"{self.path}: the depth image of frame {record.number} cannot be decompressed "
                    f"({damage}), it is damaged; {_AGAIN}"
                ) from damage
            if len(blob) == expected and not decoder.eof:
                raise SceneError(
                    f"{self.path}: the depth image of frame {record.number} does not end with its "
                    f"checksum, it is damaged; {_AGAIN}"
                )
        self._require_bytes(record, "depth", len(blob), expected)
        counts = np.frombuffer(blob, dtype="<u2").reshape(height, width).astype(np.uint16)
        counts[counts == np.iinfo(np.uint16).max] = 0  # no reading
        return counts

    def _blob(self, record: SensRecord, start: int, size: int) -> bytes:
        try:
            with self.path.open("rb", buffering=0) as stream:
                blob = _read_at(stream, start, size)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if len(blob) != size:
            raise SceneError(
                f"{self.path}: ends inside frame {record.number}, it was whole when it was opened; "
                "leave the file in place while it is being read"
            )
        return blob

    def _require_bytes(self, record: SensRecord, what: str, found: int, expected: int) -> None:
        if found != expected:
            more = "more" if found > expected else str(found)
            raise SceneError(
                f"{self.path}: the {what} image of frame {record.number} has {more} bytes, "
                f"expected {expected} for its size; {_AGAIN}"
            )


_AGAIN = "download the file again"


def open_sens(path: Path, frame_step: int = 1) -> SensFile:
    """Index a `.sens` file: its header and 96 bytes a frame are read, no image.

    Args:
        path: the file.
        frame_step: keep every n-th frame, counted from the first, lost ones included.

    Raises:
        SceneError: the file is missing, of another version, truncated, or contradicts itself; or
            its depth is compressed as "occi".
    """
    try:
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            header, frame_count, place = _read_header(path, stream, size)
            records, place = _index(path, stream, size, header, frame_count, place, frame_step)
            _check_end(path, stream, size, frame_count, place)
    except OSError as error:
        raise _unreadable(path, error) from error
    return SensFile(path, header, tuple(records), frame_count)


def _read_at(stream: io.FileIO, start: int, size: int) -> bytes:
    """Up to `size` bytes from `start`, and none besides; fewer only where the file ends."""
    stream.seek(start)
    parts = []
    while size > 0:
        part = stream.read(min(size, 1 << 26))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_header(path: Path, stream: io.FileIO, size: int) -> tuple[SensHeader, int, int]:
    start = _read_at(stream, 0, 12)
    if len(start) < 12:
        raise SceneError(f"{path}: has {size} bytes, too few for a .sens file; {_AGAIN}")
    version, name_length = struct.unpack("<IQ", start)
    if version != VERSION:
        raise SceneError(
            f"{path}: is version {version} of the .sens format or no .sens file, expected version "
            f"{VERSION}; {_AGAIN}"
        )
    if name_length > _MAX_NAME:
        raise SceneError(
            f"{path}: its header declares a sensor name of {name_length} bytes, expected at most "
            f"{_MAX_NAME}, so it is damaged; {_AGAIN}"
        )
    rest = _read_at(stream, 12, name_length + _FIXED.size)
    if len(rest) < name_length + _FIXED.size:
        raise SceneError(f"{path}: ends inside its header after {size} bytes; {_AGAIN}")
    values = _FIXED.unpack_from(rest, name_length)
    matrices = torch.tensor(values[:64], dtype=torch.float64).view(4, 4, 4)
    color_kind, depth_kind, color_width, color_height, depth_width, depth_height = values[64:70]
    depth_scale, frame_count = values[70], values[71]
    header = SensHeader(
        sensor=rest[:name_length].decode("utf-8", "replace"),
        color_intrinsics=_camera(path, "colour", matrices[0]),
        color_to_rig=_require_rigid(path, "colour", matrices[1]),
        depth_intrinsics=_camera(path, "depth", matrices[2]),
        depth_to_rig=_require_rigid(path, "depth", matrices[3]),
        color_compression=_compression(path, "colour", color_kind, COLOR_COMPRESSIONS),
        depth_compression=_compression(path, "depth", depth_kind, DEPTH_COMPRESSIONS),
        color_size=_size(path, "colour", color_height, color_width),
        depth_size=_size(path, "depth", depth_height, depth_width),
        depth_scale=depth_scale,
    )
    if header.depth_compression == "occi_ushort":
        raise SceneError(
            f"{path}: its depth is compressed as 'occi', the codec of one scanner app's own "
            "library, expected zlib or raw; write it again with zlib compression"
        )
    if not (math.isfinite(depth_scale) and depth_scale > 0):
        raise SceneError(
            f"{path}: its header declares {depth_scale} depth units per metre, expected a positive "
            f"number; {_AGAIN}"
        )
    place = 12 + name_length + _FIXED.size
    if frame_count > (size - place) // _FRAME.itemsize:
        raise SceneError(
            f"{path}: its header declares {frame_count} frames, its {size} bytes cannot hold them; "
            f"it is truncated or damaged, {_AGAIN}"
        )
    if frame_count > _MAX_FRAMES:
        raise SceneError(
            f"{path}: its header declares {frame_count} frames, expected at most {_MAX_FRAMES}, "
            f"so it is damaged; {_AGAIN}"
        )
    return header, frame_count, place


def _index(
    path: Path,
    stream: io.FileIO,
    size: int,
    header: SensHeader,
    frame_count: int,
    place: int,
    frame_step: int,
) -> tuple[list[SensRecord], int]:
    largest = [
        min(_EXPANSION * height * width * channels + _OVERHEAD, _MAX_BLOB)
        for (height, width), channels in ((header.color_size, 3), (header.depth_size, 2))
    ]
    records = []
    for number in range(frame_count):
        head = _read_at(stream, place, _FRAME.itemsize)
        if len(head) < _FRAME.itemsize:
            raise _truncated(path, number, frame_count, size)
        frame = np.frombuffer(head, dtype=_FRAME)[0]
        color_bytes, depth_bytes = int(frame["color_bytes"]), int(frame["depth_bytes"])
        place += _FRAME.itemsize
        if color_bytes > largest[0] or depth_bytes > largest[1]:
            raise SceneError(
                f"{path}: frame {number} declares {color_bytes} bytes of colour and {depth_bytes} "
                "of depth, more than its images can need, so it is damaged; " + _AGAIN
            )
        if place + color_bytes + depth_bytes > size:
            raise _truncated(path, number, frame_count, size)
        if number % frame_step == 0:
            records.append(
                SensRecord(
                    number,
                    _pose(frame["pose"]),
                    (int(frame["times"][0]), int(frame["times"][1])),
                    place,
                    color_bytes,
                    depth_bytes,
                )
            )
        place += color_bytes + depth_bytes
    return records, place


def _pose(values: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    with np.errstate(invalid="ignore"):  # damage may look like a NaN that signals
        return torch.from_numpy(values.astype(np.float64))


def _check_end(path: Path, stream: io.FileIO, size: int, frame_count: int, place: int) -> None:
    """Behind the frames are motion records and nothing else: a wrong frame count shows here."""
    if place == size:
        return  # written without motion records
    head = _read_at(stream, place, 8)
    count = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
    if count < 0 or place + 8 + count * _IMU_BYTES != size:
        raise SceneError(
            f"{path}: has {size - place} bytes after its {frame_count} frames, expected the motion "
            "records of the sensor, so its header is wrong or its end damaged; " + _AGAIN
        )


def _truncated(path: Path, number: int, frame_count: int, size: int) -> SceneError:
    return SceneError(
        f"{path}: ends inside frame {number} of the {frame_count} its header declares, after "
        f"{size} bytes; it is truncated or damaged, {_AGAIN}"
    )


def _unreadable(path: Path, error: OSError) -> SceneError:
    if isinstance(error, FileNotFoundError):
        return SceneError(f"{path}: is missing; {_AGAIN}")
    return SceneError(f"{path}: cannot be read ({error.strerror or error}); check the file")


def _camera(path: Path, which: str, matrix: Tensor) -> Tensor:
    camera = matrix[:3, :3].clone()
    shape = torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=torch.bool)
    if (
        not torch.isfinite(camera).all()
        or not (camera.diagonal() > 0).all()
        or float(camera[~shape].abs().max()) > 1e-3
        or abs(float(camera[2, 2]) - 1) > 1e-6
    ):
        listed = ", ".join(f"{value:.4g}" for value in camera.flatten().tolist())
        raise SceneError(
            f"{path}: the {which} camera matrix in its header is {listed}, expected fx 0 cx / "
            f"0 fy cy / 0 0 1 in pixels; {_AGAIN}"
        )
    return camera


def _require_rigid(path: Path, which: str, matrix: Tensor) -> Tensor:
    if not is_rigid(matrix) or float(matrix[:3, 3].norm()) > 1:
        raise SceneError(
            f"{path}: the {which} extrinsics in its header are no rotation and short translation "
            f"in metres, so it is damaged; {_AGAIN}"
        )
    return matrix.clone()


def _compression(path: Path, which: str, kind: int, known: dict[int, str]) -> str:
    if kind not in known:
        listed = ", ".join(f"{number} ({name})" for number, name in known.items())
        raise SceneError(
            f"{path}: its header declares {which} compression {kind}, expected one of {listed}; "
            + _AGAIN
        )
    return known[kind]


def _size(path: Path, which: str, height: int, width: int) -> tuple[int, int]:
    if not (0 < height * width <= MAX_IMAGE_PIXELS):
        raise SceneError(
            f"{path}: its header declares {which} images of {width} x {height} pixels, expected 1 "
            f"to {MAX_IMAGE_PIXELS} pixels; {_AGAIN}"
        )
    return height, width
