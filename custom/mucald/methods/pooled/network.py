"""The split network in one piece with a back end for each site: what a participant with all data trains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald import optimisers, randomness
from mucald.data.dataset import SiteData
from mucald.errors import TrainingError
from mucald.federation.method import TrainedModel
from mucald.losses.segmentation import SegmentationLoss
from mucald.methods.pooled.config import PooledConfig
from mucald.nets import back_end_of, backbone_of
from mucald.nets.latent import bounded
from mucald.state.averages import gradient_norm
from mucald.state.checkpoint import (
    load_module_tensors,
    load_optimiser_tensors,
    module_tensors,
    optimiser_tensors,
    with_prefix,
    without_prefix,
)

BEST_DICE = "best_dice"


@dataclass
class Best:
    """A site's best round so far: the weights of front end, middle network and its back end, and its Dice."""

    weights: dict[str, Tensor]
    dice: float = -1.0


@dataclass(frozen=True)
class StepResult:
    """Mean losses of one training step, and the parts' gradient norms before clipping."""

    losses: dict[str, float]
    gradients: dict[str, float]


class PooledNetwork:
    """One front end and one middle network for all sites, and a back end for each, with one AdamW.

    For each site it is the function that split-federated learning computes without noise: the latent is
    standardised and clamped in between. First weights, losses, learning rate, weight decay and bounds of the
    gradient are those of a split job too; what is shared begins as at the first site in alphabetical order.

    Args:
        config: the job.
        data: the sites' data by name.
        device: where to compute.
    """

    def __init__(self, config: PooledConfig, data: Mapping[str, SiteData], device: torch.device):
        self._config, self._device = config, device
        # Sorted, so that nothing depends on the order of the job's file.
        self.sites = sorted(data)
        backbone = backbone_of(config.network)
        backbone.check_image_size(config.data.image_size)
        seed, first = config.seed, data[self.sites[0]]
        with randomness.seeded_initialisation(seed, first.noise_secret, "front_end"):
            self.front_end = backbone.front_end().to(device)
        with randomness.seeded_initialisation(seed, "middle"):
            self.middle = backbone.middle().to(device)
        self.back_ends: dict[str, nn.Module] = {}
        for site in self.sites:
            n_classes = data[site].task.n_classes
            with randomness.seeded_initialisation(seed, data[site].noise_secret, "back_end", n_classes):
                self.back_ends[site] = back_end_of(config.network, n_classes).to(device)
        self.losses = {
            site: SegmentationLoss(data[site].task.n_classes, config.cross_entropy) for site in self.sites
        }
        self._clip = config.clip
        self.optimiser = optimisers.AdamW(
            [parameter for module in self._modules().values() for parameter in module.parameters()],
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )
        self.best = {site: Best({}) for site in self.sites}

    def _modules(self) -> dict[str, nn.Module]:
        # Numbers rather than names, which may hold the dots that separate prefixes.
        numbered = {f"back_end_{number}": self.back_ends[site] for number, site in enumerate(self.sites)}
        return {"front_end": self.front_end, "middle": self.middle, **numbered}

    def _parts(self, site: str) -> dict[str, nn.Module]:
        """Return the modules that a site's images pass through."""
        return {"front_end": self.front_end, "middle": self.middle, "back_end": self.back_ends[site]}

    def _forward(self, site: str, images: Tensor) -> Tensor:
        latent, skips = self.front_end(images.to(self._device))
        return self.back_ends[site](self.middle(bounded(latent, self._clip)), skips)

    def train_step(self, site: str, images: Tensor, labels: Tensor, step: str) -> StepResult:
        """Train on a mini-batch of one site; the other sites' back ends stay as they are.

        Args:
            site: where the images come from.
            images: (B, 3, H, W).
            labels: class numbers (B, H, W).
            step: names the step in errors.

        Raises:
            TrainingError: the loss or a gradient is not finite.
        """
        parts = self._parts(site)
        for module in parts.values():
            module.train()
        terms = self.losses[site].terms(self._forward(site, images), labels.to(self._device))
        segmentation = self.losses[site].combine(terms)
        losses = {name: value.item() for name, value in {**terms, "segmentation": segmentation}.items()}
        _check_finite(losses, "loss", site, step)
        # Without a gradient AdamW passes a back end over, weight decay included.
        self.optimiser.zero_grad(set_to_none=True)
        segmentation.backward()
        gradients = {name: gradient_norm(module.parameters()) for name, module in parts.items()}
        _check_finite(gradients, "gradient of", site, step)
        # Two bounds, as in a split job: the site's networks have one, the server's has its own.
        bound = self._config.optimiser.clip_norm
        outer = [*parts["front_end"].parameters(), *parts["back_end"].parameters()]
        torch.nn.utils.clip_grad_norm_(outer, bound)
        torch.nn.utils.clip_grad_norm_(self.middle.parameters(), bound)
        self.optimiser.step()
        return StepResult(losses, gradients)

    @torch.no_grad()
    def predict(self, site: str, images: Tensor) -> Tensor:
        """Return logits (B, C, H, W) for images (B, 3, H, W) of a site."""
        for module in self._parts(site).values():
            module.eval()
        return self._forward(site, images)

    def weights(self, site: str) -> dict[str, Tensor]:
        """Return the present weights that a site's images pass through: ``front_end.…``, ``middle.…``, …"""
        return module_tensors(self._parts(site))

    def keep_if_best(self, site: str, dice: float | None) -> bool:
        """Keep a site's weights if ``dice`` beats every earlier validation of it; return whether it did."""
        # A validation in which no class counts can never be the best.
        if dice is None or dice <= self.best[site].dice:
            return False
        kept = {name: tensor.detach().clone() for name, tensor in self.weights(site).items()}
        self.best[site] = Best(kept, dice)
        return True

    def load_best(self, site: str) -> None:
        """Put the weights of a site's best round in place."""
        if self.best[site].weights:
            load_module_tensors(self._parts(site), self.best[site].weights)

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds."""
        tensors = with_prefix("optimiser", optimiser_tensors(self.optimiser))
        tensors |= with_prefix("weights", module_tensors(self._modules()))
        for number, site in enumerate(self.sites):
            tensors |= with_prefix(f"best.{number}", self.best[site].weights)
        dice = [self.best[site].dice for site in self.sites]
        return tensors | {BEST_DICE: torch.tensor(dice, dtype=torch.float64)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        load_optimiser_tensors(self.optimiser, without_prefix("optimiser", tensors))
        load_module_tensors(self._modules(), without_prefix("weights", tensors))
        for number, site in enumerate(self.sites):
            kept = without_prefix(f"best.{number}", tensors)
            weights = {name: tensor.to(self._device) for name, tensor in kept.items()}
            self.best[site] = Best(weights, float(tensors[BEST_DICE][number]))


def _check_finite(values: Mapping[str, float], what: str, site: str, step: str) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"{what} '{name}' of site '{site}' is not finite at round/step {step}; "
                "lower the learning rate or check the images"
            )


class _Joined(nn.Module):
    """Front end, middle network and one site's back end, in evaluation mode."""

    def __init__(self, config: PooledConfig, n_classes: int):
        super().__init__()
        backbone = backbone_of(config.network)
        self.front_end, self.middle = backbone.front_end(), backbone.middle()
        self.back_end, self._clip = back_end_of(config.network, n_classes), config.clip

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C, S, S) for images (B, 3, S, S) in [0, 1]."""
        latent, skips = self.front_end(images)
        return self.back_end(self.middle(bounded(latent, self._clip)), skips)


def joined(model: TrainedModel) -> nn.Module:
    """Return the network of one site's trained model."""
    assert isinstance(model.config, PooledConfig)
    network = _Joined(model.config, model.task.n_classes)
    network.load_state_dict(model.site_weights)
    return network.eval().requires_grad_(False)
