"""Process that runs OpenSeg in TensorFlow, so that TensorFlow and torch are never loaded together.

It is started as a script and imports nothing of this package. It reads encoded images from its
input and writes feature maps to its output, each as a header line of JSON and the bytes it counts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIGNATURE = "serving_default"
INPUTS = ("inp_image_bytes", "inp_text_emb")
POOLED = "ppixel_ave_feat"
"""Features averaged over the regions that the model proposes."""
INFO = "image_info"
OUTPUTS = (INFO, POOLED)
CHANNELS = 768


class Size(NamedTuple):
    """Rows and columns."""

    height: int
    width: int


def valid_region(image_info: NDArray[np.float32]) -> Size:
    """The top left part of a feature map that the image lies in; the rest is padding.

    Args:
        image_info: (4, 2) float32: the image's size, the map's, scale and offset of the first in
            the second.

    Source: OpenScene, `extract_openseg_img_feature`.
    """
    scaled = image_info[0].astype(np.float32) * image_info[2].astype(np.float32)
    return Size(int(scaled[0]), int(scaled[1]))


def nearest_rows(there: int, wanted: int) -> NDArray[np.int64]:
    """Rows of a map that a nearest-neighbour resize takes, the outermost on the outermost.

    Args:
        there: rows of the map.
        wanted: rows of the result.

    Returns:
        (wanted,) int64, as TensorFlow's `resize_nearest_neighbor` with `align_corners`.
    """
    if wanted == 1:
        return np.zeros(1, dtype=np.int64)
    step = np.float32(there - 1) / np.float32(wanted - 1)
    places = np.arange(wanted, dtype=np.float32) * step
    rows: NDArray[np.int64] = np.floor(places + np.float32(0.5)).astype(np.int64)
    return rows.clip(max=there - 1)


def resized_features(
    features: NDArray[np.float32], image_info: NDArray[np.float32], wanted: Size
) -> NDArray[np.float16]:
    """The valid region of a feature map, resized to its nearest neighbours.

    Args:
        features: (1, 640, 640, D).
        image_info: as `valid_region` takes it.
        wanted: of the result.

    Returns:
        (height, width, D) float16.
    """
    region = valid_region(image_info)
    rows = nearest_rows(region.height, wanted.height)
    columns = nearest_rows(region.width, wanted.width)
    return np.stack([features[0, row, columns] for row in rows]).astype(np.float16)


def serve(model_folder: str, source: BinaryIO, target: BinaryIO) -> None:
    """Answer requests until the input ends; the first answer says that the model is loaded."""
    try:
        import tensorflow

        model = tensorflow.saved_model.load(model_folder, tags=["serve"])
        run = model.signatures[SIGNATURE]
        no_text = tensorflow.zeros([1, 1, CHANNELS])
    except Exception as error:  # whatever TensorFlow raises is told to the other process
        _tell(target, {"error": _sentence(error)})
        return
    _tell(target, {"ready": True})
    while header := source.readline():
        request = json.loads(header)
        encoded = source.read(request["bytes"])
        try:
            found = run(inp_image_bytes=tensorflow.convert_to_tensor(encoded), inp_text_emb=no_text)
            answer = _features(found, Size(request["height"], request["width"]))
        except Exception as error:  # as above
            _tell(target, {"error": _sentence(error)})
            continue
        _tell(target, {"shape": answer.shape, "bytes": answer.nbytes}, answer.tobytes())


def _features(found: Mapping[str, Any], wanted: Size) -> NDArray[np.float16]:
    """(height, width, D) float16 of the outputs of the model."""
    missing = [name for name in OUTPUTS if name not in found]
    if missing:
        raise KeyError(f"the model gives no {' and no '.join(missing)}")
    return resized_features(found[POOLED].numpy(), found[INFO].numpy(), wanted)


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _tell(target: BinaryIO, header: Mapping[str, Any], content: bytes = b"") -> None:
    target.write(json.dumps(header).encode() + b"\n" + content)
    target.flush()


def _limit_memory(size: int) -> None:
    """Let an allocation beyond `size` bytes of this process fail; 0: no limit."""
    if size:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def main() -> None:
    """Serve the model in the folder of the first argument, in the bytes of the second."""
    _limit_memory(int(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what TensorFlow prints must not get between the answers
    serve(sys.argv[1], sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
