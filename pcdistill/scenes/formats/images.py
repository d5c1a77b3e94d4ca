"""Colour and depth image files as tensors."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.size_limits import HOW_TO_RAISE, raised, read_bounded

MAX_IMAGE_PIXELS = 64_000_000
"""Pixels; a header that declares more is taken for damage, before anything is allocated."""
MAX_FILE_BYTES = 256 << 20
"""Bytes of an image file; one that has more is not read."""

_ABSURD = 1000.0  # times the usual distance
_NOWHERE = 65504.0  # the largest number of 16-bit floats
_USUAL_OF = 4096  # pixels of which the median is taken
_FORMATS = ("JPEG", "PNG")  # no other decoder sees a damaged file
COLOR_SUFFIXES = (".jpg", ".jpeg", ".png")
DEPTH_SUFFIXES = (".png", ".npy")


def read_color(path: Path, *, checksum: int | None = None) -> Tensor:
    """Read a colour image.

    Args:
        path: a JPEG or PNG file; greyscale and palette images become RGB, transparency is dropped.
        checksum: CRC-32 of the file's bytes where it is known.

    Returns:
        (H, W, 3) uint8, red green blue.

    Raises:
        SceneError: the file is missing, damaged, or not an image.
    """
    image = _open(path, _bytes(path, checksum))
    with image:
        try:
            pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
        except Exception as damage:  # the decoders raise a dozen unrelated types on damaged files
            raise _unreadable(path, damage) from damage
    return torch.from_numpy(pixels)


def read_depth(path: Path, *, depth_scale: float, checksum: int | None = None) -> Tensor:
    """Read a depth image in metres.

    Args:
        path: a 16-bit PNG, or a NumPy .npy array (H, W): counts if integer, metres if floating.
        depth_scale: counts per metre, 1000 for millimetres.
        checksum: CRC-32 of the file's bytes where it is known.

    Returns:
        (H, W) float32, metres; 0 where the sensor saw nothing: also for NaN, infinity, negatives,
        the largest number of the file's type (65535 of 16 bits) and what `drop_sentinels` drops.

    Raises:
        SceneError: the file is missing, damaged, or not a depth image.
    """
    if path.suffix.lower() == ".npy":
        metres = _read_npy(path, depth_scale, checksum)
    else:
        metres = _read_counts(path, checksum) / np.float32(depth_scale)
    return torch.from_numpy(drop_sentinels(metres))


def drop_sentinels(metres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Set to 0 in place what is no reading: NaN, infinity, negatives, and absurd distances.

    An absurd distance is more than a thousand times the usual one of the image, such as 65504,
    1e10 or the largest number there is, by which renderers say that they saw nothing.

    Args:
        metres: (H, W), or in another unit.
    """
    metres[~(np.isfinite(metres) & (metres > 0))] = 0
    farthest = metres.max(initial=0)
    known = metres[(metres > 0) & (metres < farthest)]  # the farthest may be no reading
    if known.size:
        usual = float(np.median(known[:: max(1, known.size // _USUAL_OF)]))
        if farthest > _ABSURD * usual:
            metres[metres > _ABSURD * usual] = 0
    elif farthest >= _NOWHERE:  # all pixels are alike
        metres[:] = 0
    return metres


def read_image_size(path: Path) -> tuple[int, int]:
    """(H, W) as the file's header declares it; the pixels are not decoded.

    Raises:
        SceneError: the file is missing or its header is damaged.
    """
    if path.suffix.lower() == ".npy":
        height, width = _open_npy(path).shape
        return int(height), int(width)
    try:
        with path.open("rb") as stream:
            image = _open(path, stream)
            return image.height, image.width
    except OSError as damage:
        raise _unreadable(path, damage) from damage


def orientation_of(path: Path) -> int:
    """The EXIF orientation of an image file, 1 (upright) to 8; above 4 its sides are exchanged.

    Pixels are read as they are stored, as COLMAP and most capture tools count them.

    Raises:
        SceneError: the file is missing or its header is damaged.
    """
    try:
        with path.open("rb") as stream:
            found = _open(path, stream).getexif().get(0x0112, 1)
    except OSError as damage:
        raise _unreadable(path, damage) from damage
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def encode_color(image: Tensor, quality: int = 92) -> bytes:
    """JPEG bytes of an (H, W, 3) uint8 image, colour at full resolution."""
    stream = io.BytesIO()
    Image.fromarray(image.cpu().contiguous().numpy()).save(
        stream, "JPEG", quality=quality, subsampling=0
    )
    return stream.getvalue()


def encode_depth(depth: Tensor, depth_scale: float) -> bytes:
    """16-bit PNG bytes of an (H, W) float32 depth in metres; what does not fit becomes 0."""
    metres = depth.cpu().numpy()
    known = np.isfinite(metres) & (metres > 0)
    counts = np.rint(np.where(known, metres, 0).astype(np.float64) * depth_scale)
    counts[counts > 65535] = 0
    stream = io.BytesIO()
    Image.fromarray(counts.astype(np.uint16)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def _bytes(path: Path, checksum: int | None) -> io.BytesIO:
    try:
        content = read_bounded(path, MAX_FILE_BYTES)
    except OSError as missing:
        raise SceneError(
            f"{path}: cannot be read ({missing.strerror}); restore the file or drop its frame"
        ) from missing
    if content is None:
        raise SceneError(
            f"{path}: has more than the {raised(MAX_FILE_BYTES)} bytes an image file may have; "
            f"replace the damaged file, or, {HOW_TO_RAISE}"
        )
    if checksum is not None and zlib.crc32(content) != checksum:
        raise SceneError(
            f"{path}: the file changed after the scene was stored (its checksum differs); "
            "write the scene again"
        )
    return io.BytesIO(content)


def _open(path: Path, stream: io.BufferedReader | io.BytesIO) -> Image.Image:
    try:
        image = Image.open(stream, formats=_FORMATS)
    except Exception as damage:
        raise _unreadable(path, damage) from damage
    if image.width * image.height > raised(MAX_IMAGE_PIXELS):
        raise SceneError(
            f"{path}: its header declares {image.width} x {image.height} pixels, more than the "
            f"{raised(MAX_IMAGE_PIXELS)} an image may have; replace the damaged file, or, "
            f"{HOW_TO_RAISE}"
        )
    size = stream.seek(0, io.SEEK_END)
    if image.width * image.height > size * _most_pixels_of_a_byte(image):
        raise SceneError(  # a JPEG decoder would fill what is missing with grey
            f"{path}: its header declares {image.width} x {image.height} pixels, more than its "
            f"{size} bytes can hold; replace the damaged file"
        )
    return image


def _most_pixels_of_a_byte(image: Image.Image) -> float:
    if image.format == "JPEG":
        return 512  # one bit for each block of 64 pixels
    bits = {"RGB": 24, "RGBA": 32, "LA": 16, "I;16": 16, "I;16B": 16, "I": 16}.get(image.mode, 1)
    return 1032 * 8 / bits  # the most that zlib compresses


def _read_counts(path: Path, checksum: int | None) -> np.ndarray:
    content = _bytes(path, checksum)
    image = _open(path, content)
    if image.mode not in ("I;16", "I;16B", "I", "L"):
        raise SceneError(
            f"{path}: is a '{image.mode}' image, a depth image has one channel of 16 bits; "
            "give the raw depth instead of a picture of it"
        )
    try:
        image.verify()  # the checksums of a PNG; decoding alone does not look at them
        content.seek(0)
        with Image.open(content) as again:
            counts = np.asarray(again).astype(np.float32)
    except Exception as damage:
        raise _unreadable(path, damage) from damage
    counts[counts == (255 if image.mode == "L" else 65535)] = 0
    return counts


def _open_npy(path: Path) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as damage:
        raise _unreadable(path, damage) from damage
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu":
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive"
        raise SceneError(f"{path}: holds {found}, a depth array is (H, W) metres; store it so")
    if values.size > raised(MAX_IMAGE_PIXELS):
        raise SceneError(
            f"{path}: holds {values.shape[1]} x {values.shape[0]} pixels, more than the "
            f"{raised(MAX_IMAGE_PIXELS)} an image may have; replace the damaged file, or, "
            f"{HOW_TO_RAISE}"
        )
    return values


def _read_npy(path: Path, depth_scale: float, checksum: int | None) -> np.ndarray:
    if checksum is not None:
        _bytes(path, checksum)
    values = _open_npy(path)
    with np.errstate(over="ignore"):  # infinite becomes unknown
        metres = np.array(values, dtype=np.float32)
    largest = np.finfo(values.dtype).max if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    metres[np.asarray(values) == largest] = 0
    return metres if values.dtype.kind == "f" else metres / np.float32(depth_scale)


def _unreadable(path: Path, damage: Exception) -> SceneError:
    if isinstance(damage, FileNotFoundError):
        return SceneError(f"{path}: is missing; restore the file or drop its frame")
    if isinstance(damage, OSError) and damage.errno is not None:  # the system's, not a decoder's
        return SceneError(
            f"{path}: cannot be read ({damage.strerror or damage}), expected an image; restore the "
            "file, give yourself the right to read it, or drop its frame"
        )
    reason = str(damage).split("\n")[0] or type(damage).__name__
    return SceneError(
        f"{path}: cannot be decoded as an image ({reason}); "
        "it is damaged or truncated, replace the file or drop its frame"
    )
