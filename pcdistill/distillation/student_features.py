"""Features of a trained student for the points of a scene."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pcdistill.distillation.batches import Batch, StudentInput, make_voxel_batch
from pcdistill.distillation.voting import ONE_LOOK, Looks
from pcdistill.sparse import SparseTensor


def forward_batch(network: nn.Module, batch: Batch) -> Tensor:
    """(V, D) float: output of the student for a batch (Eq. 9)."""
    output: Tensor = network(SparseTensor(batch.features, batch.coords, maps=batch.maps))
    return output


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # not in every version of torch
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def infer_point_features(
    network: nn.Module,
    cloud: StudentInput,
    voxel_size: float,
    device: torch.device,
    *,
    looks: Looks = ONE_LOOK,
) -> Tensor:
    """(N, D) float32 on the CPU: the trained student's feature of every point.

    Args:
        network: the student; it is moved to the device and put into evaluation mode.
        cloud: N points with what the student was trained on.
        voxel_size: metres.
        device: where to compute.
        looks: the outputs of several are averaged, each cut into other voxels.

    Raises:
        ValueError: there is no look.
    """
    total: Tensor | None = None
    for output in features_by_look(network, cloud, voxel_size, device, looks=looks):
        total = output if total is None else total + output
    if total is None:
        raise ValueError("there is no look")
    return total / looks.count


def features_by_look(
    network: nn.Module,
    cloud: StudentInput,
    voxel_size: float,
    device: torch.device,
    *,
    looks: Looks = ONE_LOOK,
) -> Iterator[Tensor]:
    """Yield (N, D) float32 on the CPU for every look; arguments as of `infer_point_features`."""
    network.to(device).eval()
    for look in looks.at(cloud):
        with torch.inference_mode():
            batch = make_voxel_batch([look.to(device)], voxel_size)
            output = forward_batch(network, batch)[batch.point_to_voxel[0]].cpu()  # (N, D)
        yield output
