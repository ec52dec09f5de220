"""Synthetic embeddings: drawn at every site from what all have trained, and kept as a set of their own."""

import hashlib
from dataclasses import replace
from typing import Any

import torch

from mucald.data.embeddings.sets import HASH_BYTES, EmbeddingSet, Header, set_bytes
from mucald.methods.generative.algorithms.base import Algorithm, Learner, Samples
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.features import space_of

SYNTHETIC_FILE = "synthetic.safetensors"


def synthetic_samples(
    algorithm: Algorithm, learner: Learner | None, n_classes: int, config: GenerativeConfig, site: str
) -> Samples:
    """Draw as many features of each class as the job says; nothing of the site decides how many.

    They have the norm of features, as real ones have.
    """
    assert learner is not None
    labels = torch.arange(n_classes).repeat_interleave(config.downstream.per_class)
    x = algorithm.sample(learner, labels, (config.seed, site, "synthetic"))
    norms = x.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return Samples(x / norms * x.shape[1] ** 0.5, labels)


def synthetic_set(samples: Samples, real: Header, config: GenerativeConfig) -> bytes:
    """Return the file of a synthetic set, with its guarantee in the header.

    Args:
        samples: what was drawn.
        real: header of the set behind it.
        config: the job.
    """
    private = config.privacy.epsilon is not None
    header = replace(
        real,
        cases=(),
        groups={},
        synthetic=True,
        epsilon=config.privacy.epsilon,
        delta=config.privacy.delta if private else None,
        space=space_of(config.features),
    )
    hashes: list[Any] = [
        bytearray(hashlib.sha256(row.numpy().tobytes()).digest()[:HASH_BYTES]) for row in samples.x
    ]
    rows = torch.stack([torch.frombuffer(one, dtype=torch.uint8) for one in hashes])
    return set_bytes(EmbeddingSet(header, samples.x, samples.labels, rows))
