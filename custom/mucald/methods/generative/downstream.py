"""The classifiers that a site trains for itself, and how it mixes its own with that of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mucald import optimisers
from mucald.methods.generative.algorithms.base import Samples
from mucald.methods.generative.config import DownstreamConfig
from mucald.methods.generative.nets.layers import chain
from mucald.metrics import classification
from mucald.randomness import seeded_initialisation

MIXTURES = tuple(number / 10 for number in range(11))
"""The values of λ that are tried."""


def train_classifier(samples: Samples, n_classes: int, config: DownstreamConfig, seed: int) -> nn.Sequential:
    """Train a classifier on all samples at once.

    Args:
        samples: features and classes; a class may be missing.
        n_classes: classes K.
        config: its layers and schedule.
        seed: of the job, which its first weights follow from.
    """
    with seeded_initialisation(seed, "downstream"):
        classifier = chain(samples.x.shape[1], config.hidden, n_classes)
    optimiser = optimisers.Adam(
        classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    for _ in range(config.epochs):
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(classifier(samples.x), samples.labels).backward()
        optimiser.step()
    return classifier


@dataclass(frozen=True)
class Classifiers:
    """What a site classifies with: its own classifier, that of all, or both; at least one.

    Args:
        local: trained on the site's own samples.
        shared: that of all sites.
    """

    local: nn.Module | None
    shared: nn.Module | None

    @torch.no_grad()
    def log_probabilities(self, x: Tensor, mixture: float) -> Tensor:
        """Return log(λ own + (1 − λ) shared) (B, K); of one classifier alone, whatever λ, its own."""
        if self.local is None or self.shared is None:
            alone = self.local or self.shared
            assert alone is not None
            return alone(x).log_softmax(dim=1)
        own, others = (net(x).double().softmax(dim=1) for net in (self.local, self.shared))
        mixed = mixture * own + (1 - mixture) * others
        return mixed.clamp(min=torch.finfo(torch.float64).tiny).log().float()

    def scores(self, samples: Samples, mixture: float) -> float:
        """Return the balanced accuracy of a mixture on some samples."""
        logits = self.log_probabilities(samples.x, mixture)
        found = classification.balanced_accuracy([classification.sample_scores(logits, samples.labels)])
        return 0.0 if found is None else found

    def votes(self, samples: Samples) -> dict[str, float]:
        """Return the balanced accuracy of every mixture, by its λ as text."""
        return {f"{mixture:.1f}": self.scores(samples, mixture) for mixture in MIXTURES}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, ``local.…`` and ``shared.…``."""
        parts = {name: net for name, net in (("local", self.local), ("shared", self.shared)) if net}
        return {f"{n}.{key}": t.detach() for n, net in parts.items() for key, t in net.state_dict().items()}


def best_mixture(votes: Mapping[str, float]) -> float:
    """Return the λ with the most votes; of several the middle one."""
    most = max(votes.values())
    best = sorted(float(name) for name, score in votes.items() if score >= most - 1e-9)
    return best[(len(best) - 1) // 2]


def mean_votes(votes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of several sites' votes; all count alike."""
    names = [f"{mixture:.1f}" for mixture in MIXTURES]
    return {name: sum(one[name] for one in votes) / len(votes) for name in names}
