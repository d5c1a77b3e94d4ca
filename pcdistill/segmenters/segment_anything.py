"""Segment Anything (SAM): outlines the object under a few points, by package segment-anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import ArtifactError, MissingExtraError
from pcdistill.segmenters.prompt_checks import check_point_prompts
from pcdistill.segmenters.sam_layout import SamLayout, read_layout

_DECODER_HEADS = 8
"""Attention heads of the mask decoder, which its tensors do not tell; the same in all networks."""
_PIXEL_MEAN, _PIXEL_SPREAD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SegmentAnythingSegmenter:
    """Point-prompted segmentation by a Segment Anything network.

    All points are on the object, and the one mask is taken that the network gives for prompts that
    are not ambiguous. The release does the same, with ViT-H; but it hands the network the channels
    of the image in the order blue, green, red, while SAM was trained with red first. Here they
    come as the network expects them.

    Weights are read when the first image is outlined, and kept.

    Source: Kirillov et al., Segment Anything, ICCV 2023; SAS, section 3.2.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], Mapping[str, Tensor]],
        file: str,
        provenance: Mapping[str, str],
        device: torch.device,
    ) -> None:
        """Look whether the package is there; read nothing yet.

        Args:
            name: of the weights, such as "sam-vit-b".
            load: reads the tensors of the checkpoint.
            file: where they are read from, for messages.
            provenance: of the weights.
            device: where the network computes, in float32.

        Raises:
            MissingExtraError: the package segment-anything is not installed.
        """
        _import_package(name)
        self.name = name
        self.provenance = provenance
        self._load, self._file, self._device = load, file, device

    @cached_property
    def _predictor(self) -> Any:
        package = _import_package(self.name)
        network = _build(package, self.name, self._load(), self._file)
        return package.SamPredictor(network.to(self._device))

    def __call__(self, image: Tensor, points: Tensor) -> Tensor:
        """Outline the object that the points lie on.

        Args:
            image: (3, H, W) uint8 RGB.
            points: (P, 2) int64, (x, y) = (column, row), P >= 1.

        Returns:
            (H, W) bool, on the image's device. It may be empty, or leave out points.

        Raises:
            ValueError: other shapes or dtypes, no point, or a point outside the image.
            ArtifactError: the weights are damaged or of another network.
        """
        check_point_prompts(image, points)
        self._predictor.set_image(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
        masks, _, _ = self._predictor.predict(
            point_coords=points.cpu().numpy(),
            point_labels=np.ones(len(points), dtype=np.int64),
            multimask_output=False,
        )
        self._predictor.reset_image()
        return torch.from_numpy(masks[0]).to(image.device)


def _import_package(name: str) -> Any:
    try:
        import segment_anything
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        raise MissingExtraError(
            f"segmenter '{name}' needs segment-anything ({error}); install it with "
            "pip install 'pcdistill[synthesis]'"
        ) from None
    return segment_anything


def _build(package: Any, name: str, weights: Mapping[str, Tensor], file: str) -> Any:
    """Build the network that the tensors are of, with them in it.

    Raises:
        ArtifactError: they are of no Segment Anything network, or of another published one.
    """
    try:
        layout = read_layout(weights)
    except KeyError as error:
        raise _not_sam(file, f"found no tensor {error}") from None
    known = layout.official_name
    if known not in (None, name):
        raise ArtifactError(
            f"{file}: holds the network of '{known}', but synthesize.segmenter is '{name}'; set "
            f"synthesize.segmenter: {known}, or name the file of '{name}'"
        )
    with torch.device("meta"):
        network = _network(package.modeling, layout)
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    wrong = [
        key
        for key in sorted({*expected, *weights})
        if key not in expected or key not in weights or weights[key].shape != expected[key]
    ]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise _not_sam(file, f"{wrong[0]}{more} are missing, unknown or of another shape")
    network.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    for buffer, values in (("pixel_mean", _PIXEL_MEAN), ("pixel_std", _PIXEL_SPREAD)):
        setattr(network, buffer, torch.tensor(values).view(-1, 1, 1))
    return network.eval()


def _not_sam(file: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"{file}: {found}, expected a checkpoint of Segment Anything as its authors publish it, "
        "such as sam_vit_b_01ec64.pth; fetch it with `pcdistill weights fetch sam-vit-b`"
    )


def _network(modeling: Any, layout: SamLayout) -> Any:
    grid = layout.image_size // layout.patch_size
    encoder = modeling.ImageEncoderViT(
        img_size=layout.image_size,
        patch_size=layout.patch_size,
        embed_dim=layout.width,
        depth=layout.depth,
        num_heads=layout.heads,
        mlp_ratio=layout.hidden / layout.width,
        out_chans=layout.prompt_width,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=layout.window,
        global_attn_indexes=layout.global_blocks,
    )
    prompts = modeling.PromptEncoder(
        embed_dim=layout.prompt_width,
        image_embedding_size=(grid, grid),
        input_image_size=(layout.image_size, layout.image_size),
        mask_in_chans=layout.mask_channels,
    )
    transformer = modeling.TwoWayTransformer(
        depth=layout.decoder_depth,
        embedding_dim=layout.prompt_width,
        mlp_dim=layout.decoder_hidden,
        num_heads=_DECODER_HEADS,
    )
    decoder = modeling.MaskDecoder(
        transformer=transformer,
        transformer_dim=layout.prompt_width,
        num_multimask_outputs=layout.masks,
        iou_head_depth=layout.score_depth,
        iou_head_hidden_dim=layout.score_hidden,
    )
    return modeling.Sam(encoder, prompts, decoder)
