"""Reader of camera matrices and poses in text files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.text import read_numbers
from pcdistill.scenes.frames import check_camera


def read_camera_matrix(file: Path) -> Tensor:
    """(3, 3) float64 camera matrix from a text file with a 3 x 3 or 4 x 4 matrix.

    Raises:
        SceneError: the file is missing, damaged, or no camera matrix.
    """
    return validate_camera_matrix(file, read_matrix(file, (9, 16))[:3, :3].clone())


def validate_camera_matrix(file: Path, matrix: Tensor) -> Tensor:
    """`matrix` where it is one of a pinhole camera.

    Raises:
        SceneError: it is not; `file` is named.
    """
    check_camera(str(file), matrix, torch.eye(4, dtype=torch.float64))
    bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    if float(matrix[1, 0].abs()) > 1e-6 or not torch.equal(matrix[2], bottom):
        raise SceneError(
            f"{file}: is no camera matrix, expected fx 0 cx / 0 fy cy / 0 0 1 in pixels; "
            "write it row by row"
        )
    return matrix


def read_matrix(file: Path, sizes: tuple[int, ...]) -> Tensor:
    """A square matrix of numbers from a text file, float64; numbers may be NaN or infinite.

    Args:
        file: text, numbers divided by blanks or commas.
        sizes: how many numbers there may be.

    Raises:
        SceneError: the file cannot be read or holds something else.
    """
    shapes = " or ".join(f"{round(size**0.5)} x {round(size**0.5)}" for size in sizes)
    numbers = read_numbers(file, shapes)
    if len(numbers) not in sizes:
        raise SceneError(
            f"{file}: has {len(numbers)} numbers, expected a {shapes} matrix; write it again"
        )
    side = round(len(numbers) ** 0.5)
    return torch.tensor(numbers, dtype=torch.float64).view(side, side)
