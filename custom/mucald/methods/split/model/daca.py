"""Domain-adversarial causal alignment (DACA): features that do not betray the site they came from.

Gradient reversal and discriminator after Ganin et al., "Domain-Adversarial Training of Neural Networks"
(2016), as in MuCALD-SplitFed (arXiv 2605.04108). One discriminator per CRDM serves all sites. Within a round
it is frozen and every site's model plays against it; at the round's end it learns from features of all sites.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, linear, relu

from mucald.errors import ConfigError, TrainingError
from mucald.randomness import Key, generator


class _GradientReversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * -ctx.scale, None


def reverse_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """Return ``x``; its gradient is multiplied by −scale on the way back (Ganin et al., 2016, eq. 18-19)."""
    return _GradientReversal.apply(x, scale)


class Discriminator(nn.Module):
    """Tells from a feature map which domain (site) it came from.

    Args:
        channels: channels of the feature map.
        n_domains: number of domains.
        width: features of its one convolution.
    """

    def __init__(self, channels: int, n_domains: int, width: int = 128):
        super().__init__()
        self.n_domains = n_domains
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.classifier = nn.Linear(width, n_domains)

    def forward(self, features: Tensor, frozen: bool = False) -> Tensor:
        """Return logits (B, n_domains).

        Args:
            features: (B, channels, H, W).
            frozen: whether the parameters take part as constants. Nothing in the module changes for that, so
                many threads may read it at once.
        """
        p = {name: value.detach() if frozen else value for name, value in self.named_parameters()}
        hidden = relu(conv2d(features, p["conv.weight"], p["conv.bias"], padding=1))
        return linear(hidden.mean((2, 3)), p["classifier.weight"], p["classifier.bias"])


def _domain_labels(discriminator: Discriminator, domain: int, count: int, device: torch.device) -> Tensor:
    if not 0 <= domain < discriminator.n_domains:
        raise ConfigError(
            f"daca: domain {domain} is not one of the discriminator's {discriminator.n_domains}"
        )
    return torch.full((count,), domain, device=device)


def adversarial_loss(discriminator: Discriminator, features: Tensor, domain: int) -> Tensor:
    """Return the frozen discriminator's cross-entropy behind a gradient reversal, at most that of chance.

    A map of which the discriminator knows no more than chance, ln(number of domains), is aligned: it counts
    as such and gets no gradient. Without the bound, features run away from a discriminator that cannot follow
    within the round. No gradient reaches its parameters, and sites may call it at once.

    Args:
        discriminator: the CRDM's shared discriminator.
        features: denoised features (B, C, H, W) of one site.
        domain: the site's index.

    Raises:
        ConfigError: the discriminator has no such domain.
    """
    logits = discriminator(reverse_gradient(features), frozen=True)
    labels = _domain_labels(discriminator, domain, len(features), features.device)
    losses = cross_entropy(logits, labels, reduction="none")
    return losses.clamp(max=math.log(discriminator.n_domains)).mean()


class FeatureBuffer:
    """The last feature maps of one site in this round, kept on the CPU in float32.

    Args:
        capacity: number of maps to keep, each (C, H, W).

    Raises:
        ConfigError: a capacity below 1.
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise ConfigError(f"daca buffer: capacity must be at least 1, not {capacity}")
        self._maps: deque[Tensor] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._maps)

    def append(self, features: Tensor) -> None:
        """Add a batch (B, C, H, W), without its graph; the oldest maps make room."""
        # A copy per map: a view would keep the whole batch alive, and change with it.
        self._maps.extend(one.to("cpu", torch.float32, copy=True) for one in features.detach())

    def features(self) -> Tensor:
        """Return the maps (N, C, H, W), oldest first.

        Raises:
            TrainingError: the buffer is empty.
        """
        if not self._maps:
            raise TrainingError("daca buffer: empty; the site sent no features in this round")
        return torch.stack(tuple(self._maps))

    def clear(self) -> None:
        """Forget all maps, at the start of a round."""
        self._maps.clear()


@dataclass(frozen=True)
class DiscriminatorReport:
    """How the discriminator did: mean over the training batches, each judged before it is learnt from.

    Args:
        loss: cross-entropy in nats; ln(number of domains) at chance.
        accuracy: share of maps assigned to their site; 1 / number of domains at chance.
    """

    loss: float
    accuracy: float


def train_discriminator(
    discriminator: Discriminator,
    optimiser: torch.optim.Optimizer,
    features: Mapping[int, Tensor],
    steps: int,
    batch_per_domain: int,
    key: Key,
) -> DiscriminatorReport | None:
    """Train on batches that hold equally many maps of every domain.

    Domains are visited in the order of their index and draws are named by key and step, so the result depends
    neither on the order in which features arrived nor on the order of the mapping.

    Args:
        discriminator: the CRDM's shared discriminator, changed in place.
        optimiser: its optimiser.
        features: maps (N, C, H, W) of each domain index, N > 0.
        steps: number of batches.
        batch_per_domain: maps per domain and batch, drawn with replacement.
        key: names the random draws, see ``mucald.randomness``.

    Returns:
        The report, or None where nothing was trained: fewer than two domains to tell apart, or no steps.

    Raises:
        ConfigError: the discriminator has no such domain.
    """
    if len(features) < 2 or steps < 1:
        return None
    device = discriminator.conv.weight.device
    domains = sorted(features)
    labels = torch.cat([_domain_labels(discriminator, d, batch_per_domain, device) for d in domains])
    losses, hits = [], []
    for step in range(steps):
        draws = generator(*key, step)
        rows = {d: draws.integers(len(features[d]), size=batch_per_domain) for d in domains}
        logits = discriminator(torch.cat([features[d][rows[d]] for d in domains]).to(device))
        loss = cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        hits.append((logits.detach().argmax(dim=1) == labels).float().mean())
    return DiscriminatorReport(torch.stack(losses).mean().item(), torch.stack(hits).mean().item())
