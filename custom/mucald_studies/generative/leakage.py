"""What a synthetic set tells of who was trained on: nearest neighbours, and membership by shadow sets."""

from collections.abc import Callable

import torch
from torch import Tensor

from mucald_studies.attacks.harness.scoring import auc

Generate = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""Trains a generator on features and classes, and returns a synthetic set; the number names the draws."""


def nearest_neighbour_leakage(train: Tensor, held_out: Tensor, synthetic: Tensor) -> float:
    """Return the area under the curve of telling training from held-out samples by the nearest synthetic.

    0.5 tells nothing; a generator that copies its training samples has 1.
    """
    near, far = (-torch.cdist(part, synthetic).min(dim=1).values for part in (train, held_out))
    return auc(near.numpy(), far.numpy())


def membership(generate: Generate, x: Tensor, labels: Tensor, shadows: int = 16, seed: int = 0) -> float:
    """Return the area under the curve of a likelihood-ratio attack (LiRA; Carlini et al., S&P 2022).

    Generators are trained on random halves of the samples. How well a synthetic set explains a sample is the
    log density that a Gaussian kernel gives it. For each sample the attacker fits a Gaussian to these over
    the generators that had it, and one over those that had not, but for the one under attack.

    Args:
        generate: trains a generator.
        x: samples (N, D), which the attacker knows.
        labels: their classes (N,).
        shadows: number of generators.
        seed: decides the halves.
    """
    draws = torch.Generator().manual_seed(seed)
    halves = [torch.randperm(len(x), generator=draws)[: len(x) // 2] for _ in range(shadows)]
    scores, member = torch.zeros(shadows, len(x)), torch.zeros(shadows, len(x), dtype=torch.bool)
    for number, half in enumerate(halves):
        member[number, half] = True
        scores[number] = _explained(x, labels, *generate(x[half], labels[half], number))
    ratios = torch.stack([_ratios(scores, member, number) for number in range(shadows)])
    return auc(ratios[member].numpy(), ratios[~member].numpy())


def _explained(x: Tensor, labels: Tensor, synthetic: Tensor, classes: Tensor) -> Tensor:
    """Return the log density of each sample under the synthetic ones of its class."""
    width = torch.cdist(synthetic, synthetic).kthvalue(2, dim=1).values.mean().clamp(min=1e-6)
    logits = -torch.cdist(x, synthetic).square() / (2 * width**2)
    return (
        logits.masked_fill(labels[:, None] != classes[None, :], -torch.inf)
        .logsumexp(dim=1)
        .nan_to_num(neginf=-1e6)
    )


def _ratios(scores: Tensor, member: Tensor, attacked: int) -> Tensor:
    others = torch.arange(len(scores)) != attacked
    found = []
    for had in (member[others], ~member[others]):
        count = had.sum(dim=0).clamp(min=1)
        mean = (scores[others] * had).sum(dim=0) / count
        # One variance for both: of so few generators none of its own can be told.
        found.append(mean)
    spread = scores[others].var(dim=0).clamp(min=1e-9)
    own = scores[attacked]
    return ((own - found[1]).square() - (own - found[0]).square()) / (2 * spread)
