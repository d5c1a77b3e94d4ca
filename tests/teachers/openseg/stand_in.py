"""A stand-in for TensorFlow and for the folder of OpenSeg's model."""

from __future__ import annotations

from pathlib import Path

import pytest

STAND_IN = '''
"""What the worker uses of TensorFlow, in numpy: features tell row and column of a 640 map."""
import io, os, sys
from types import SimpleNamespace
import numpy as np
from PIL import Image


class Value:
    def __init__(self, values):
        self.values = values

    def numpy(self):
        return self.values


def serving_default(inp_image_bytes, inp_text_emb):
    assert inp_text_emb.shape == (1, 1, 768)
    image = Image.open(io.BytesIO(inp_image_bytes))
    if image.getpixel((0, 0)) == (1, 1, 1):
        raise ValueError("a bad\\npicture")
    if image.getpixel((0, 0)) == (2, 2, 2):
        os.abort()
    print("noise on the output")
    scale = 640 / max(image.size)
    features = np.zeros((1, 640, 640, 768), dtype=np.float32)
    features[..., 0] = np.arange(640)[:, None]
    features[..., 1] = np.arange(640)
    features[..., 2] = 100.0
    features[..., 3] = np.asarray(image).mean()
    features[:, :20] = 0  # no region
    info = np.array([image.size[::-1], [640, 640], [scale, scale], [0, 0]], dtype=np.float32)
    found = {"image_info": Value(info), "ppixel_ave_feat": Value(features)}
    return found if image.getpixel((0, 0)) != (3, 3, 3) else {"image_info": Value(info)}


def load(folder, tags):
    assert tags == ["serve"]
    assert "torch" not in sys.modules
    if open(os.path.join(folder, "saved_model.pb")).read() == "damaged":
        raise OSError("cannot parse")
    return SimpleNamespace(signatures={"serving_default": serving_default})


saved_model = SimpleNamespace(load=load)
zeros = np.zeros
convert_to_tensor = bytes
'''


class LargeClip:
    text_space = "clip-vit-l-14-336"
    dimensions = 768


def write_parts(model: Path) -> None:
    """Write files of the names that a SavedModel has."""
    (model / "variables").mkdir(parents=True, exist_ok=True)
    (model / "saved_model.pb").write_text("graph")
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (model / "variables" / name).write_text("numbers")


def install_stand_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Write the model into a folder, and let Python find the stand-in, other processes too."""
    packages, model = folder / "packages", folder / "exported_model"
    packages.mkdir(exist_ok=True)
    (packages / "tensorflow.py").write_text(STAND_IN)
    write_parts(model)
    patch.setenv("PYTHONPATH", str(packages))
    patch.syspath_prepend(str(packages))
