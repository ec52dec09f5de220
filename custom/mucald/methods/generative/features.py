"""From embeddings to what is trained on: standardised, projected and scaled by public numbers alone."""

import torch
from torch import Tensor

from mucald import randomness
from mucald.data.embeddings.loader import EmbeddingSplit, standardised
from mucald.data.embeddings.sets import EmbeddingSet
from mucald.errors import DataError
from mucald.methods.generative.config import FeaturesConfig


def space_of(config: FeaturesConfig) -> str:
    """Return the name of the space that features lie in."""
    return f"features-{config.dimension}"


def check_set(config: FeaturesConfig, content: EmbeddingSet, site: str) -> None:
    """Check that a site has embeddings of the network that the job names, with enough numbers.

    Raises:
        DataError: it has others.
    """
    header = content.header
    wanted = f"{config.backbone}{f' ({config.weights})' if config.weights else ''}"
    if header.backbone != config.backbone or not header.weights.startswith(config.weights or ""):
        own = f"{header.backbone} ({header.weights[:12]})"
        public = f"site '{site}' has embeddings of {own}, the job wants {wanted}"
        fix = "embed the images again with that network, or name your sites' in the job's features.backbone"
        raise DataError(f"{public}; {fix}", public=public)
    if header.space not in ("", space_of(config)):
        public = (
            f"site '{site}' has synthetic features of another space, {header.space} and not "
            f"{space_of(config)}; take a synthetic set of a job with features.dimension "
            f"{config.dimension}, or real embeddings"
        )
        raise DataError(public, public=public)
    if content.dimension < config.dimension:
        public = (
            f"site '{site}' has embeddings of {content.dimension} numbers, fewer than the "
            f"{config.dimension} of features.dimension; embed the images with the other sites' network"
        )
        raise DataError(public, public=public)


def features(split: EmbeddingSplit, config: FeaturesConfig) -> Tensor:
    """Return the features (N, k) of a split, each of norm √k, so that none can stand out.

    The projection is random, orthonormal and the same for everybody: it keeps distances nearly
    (Johnson & Lindenstrauss, 1984), and nothing of the site decides it.
    """
    x = standardised(split.content)
    if split.content.header.space:
        return x
    found = x if x.shape[1] <= config.dimension else x @ _projection(x.shape[1], config.dimension)
    # An embedding of nothing but zeros stays where it is.
    norms = found.norm(dim=1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)
    return found / norms * found.shape[1] ** 0.5


def _projection(dimension: int, kept: int) -> Tensor:
    draws = randomness.normal((dimension, kept), "public projection").double()
    return torch.linalg.qr(draws)[0].to(torch.float32)
