"""A whole network that one party holds and trains, for one site or for several with parts in common."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mucald import optimisers, randomness
from mucald.data.site_data import Batch, DataSplit, SiteData
from mucald.errors import TrainingError
from mucald.losses import Loss, loss_of
from mucald.metrics.names import names_of
from mucald.metrics.scoring import Previews, scores_of_test, scores_of_validation
from mucald.nets.whole import Network, WholePlan, whole_plan
from mucald.state.averages import gradient_norm
from mucald.state.checkpoint import (
    load_module_tensors,
    load_optimiser_tensors,
    module_tensors,
    optimiser_tensors,
    with_prefix,
    without_prefix,
)
from mucald.training.config import WholeModelConfig
from mucald.training.windows import predicted

BEST_SCORE = "best_score"

Adjust = Callable[[], Mapping[str, float]]
"""Changes the gradients before they are bounded, and returns what it adds to the losses, by name."""

Extra = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""Returns further terms of the loss, weighted, by name, for inputs (B, channels, …) and their logits."""


def no_terms(inputs: Tensor, logits: Tensor) -> dict[str, Tensor]:  # noqa: ARG001 - one signature
    """Add nothing to the loss."""
    return {}


@dataclass(frozen=True)
class StepResult:
    """Mean losses of one training step, and the parts' gradient norms before they are bounded."""

    losses: dict[str, float]
    gradients: dict[str, float]


@dataclass
class Best:
    """A site's best round so far: the weights of its network, and its score."""

    weights: dict[str, Tensor]
    score: float = -1.0


class WholeModel:
    """Networks of one or several sites, with one AdamW.

    All sites have the same parts but for the last, which each has for itself: one front end and one middle
    network and a back end each; or one adaptor of each kind, one encoder and a decoder each. Or those of a
    group have one whole network, which no other group has.

    For each site it is the function that split-federated learning computes without noise. First weights,
    losses, learning rate, weight decay and bounds of the gradient are those of a split job too, so that
    families can be compared; what is shared begins as at the first site in alphabetical order.

    Args:
        config: the job.
        data: the sites' data by name; for a site that trains alone its own.
        device: where to compute.
        groups: all sites by group; empty for common parts of all and a last part of each.
    """

    def __init__(
        self,
        config: WholeModelConfig,
        data: Mapping[str, SiteData],
        device: torch.device,
        groups: Collection[Sequence[str]] = (),
    ):
        self._config, self._device = config, device
        self._plan = whole_plan(config.network, config.clip)
        # Sorted, so that nothing depends on the order of the job's file.
        self.sites = sorted(data)
        self.networks: dict[str, Network] = {}
        for sites in groups or (self.sites,):
            self.networks |= _networks(self._plan, config, data, sites, own_each=not groups)
        self.losses: dict[str, Loss] = {}
        self._patches: dict[str, tuple[int, ...]] = {}
        for site in self.sites:
            self.networks[site].to(device)
            task = data[site].task
            self.losses[site] = loss_of(task, config.cross_entropy)
            # A volume that has one class is taken whole, in training too.
            if task.input == "volume" and task.target == "mask":
                self._patches[site] = config.data.volumes.plan(task.name).patch_size
        self.optimiser = optimisers.AdamW(
            [parameter for module in self._modules().values() for parameter in module.parameters()],
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )
        self.best = {site: Best({}) for site in self.sites}

    def _modules(self) -> dict[str, nn.Module]:
        found: dict[str, nn.Module] = {}
        for number, site in enumerate(self.sites):
            for part, module in self.networks[site].parts().items():
                if all(module is not other for other in found.values()):
                    # Numbers rather than names, which may hold the dots that separate prefixes.
                    first = number == 0 and part != self._plan.private
                    found[part if first else f"{part}_{number}"] = module
        return found

    def train_step(
        self,
        site: str,
        inputs: Tensor,
        targets: Tensor,
        step: str,
        adjust: Adjust = dict,
        *,
        extra: Extra = no_terms,
        trained: Collection[str] | None = None,
        rate: float = 1.0,
    ) -> StepResult:
        """Train on a mini-batch of one site; the other sites' own parts stay as they are.

        Args:
            site: where the samples come from.
            inputs: (B, channels, …).
            targets: class numbers (B, …), or (B,) where a sample has one class.
            step: names the step in errors.
            adjust: what a method does to the gradients.
            extra: what a method adds to the loss.
            trained: names of the parts that learn, None for all; the others stay, as in evaluation.
            rate: factor of the learning rate.

        Raises:
            TrainingError: the loss or a gradient is not finite.
        """
        network, loss, parts = self.networks[site], self.losses[site], self.networks[site].parts()
        trained = self._plan.parts if trained is None else trained
        for name, module in parts.items():
            module.train(name in trained).requires_grad_(name in trained)
        inputs = inputs.to(self._device)
        logits = network(inputs)
        terms = loss.terms(logits, targets.to(self._device))
        own, added = loss.combine(terms), extra(inputs, logits)
        terms = {**terms, loss.name: own, **added}
        losses = {name: value.item() for name, value in terms.items()}
        _check_finite(losses, "loss", site, step)
        # Without a gradient AdamW passes a part over, weight decay included.
        self.optimiser.zero_grad(set_to_none=True)
        sum(added.values(), own).backward()
        losses |= adjust()
        gradients = {n: gradient_norm(part.parameters()) for n, part in parts.items() if n in trained}
        _check_finite(gradients, "gradient of", site, step)
        for names in self._plan.bounded:
            parameters = [parameter for name in names for parameter in parts[name].parameters()]
            torch.nn.utils.clip_grad_norm_(parameters, self._config.optimiser.clip_norm)
        optimisers.scale_rates(self.optimiser, rate)
        self.optimiser.step()
        return StepResult(losses, gradients)

    @torch.no_grad()
    def predict(self, site: str, inputs: Tensor) -> Tensor:
        """Return a site's logits for inputs (B, channels, …): (B, C, …), or (B, C) for one class each."""
        network = self.networks[site].eval()
        return predicted(network, inputs.to(self._device), self._patches.get(site))

    def weights(self, site: str) -> dict[str, Tensor]:
        """Return the present weights that a site's samples pass through, ``<part>.<name>``."""
        return module_tensors(self.networks[site].parts())

    def keep_if_best(self, site: str, score: float | None) -> bool:
        """Keep a site's weights if ``score`` beats every earlier validation of it; return whether it did."""
        # A validation in which no class counts can never be the best.
        if score is None or score <= self.best[site].score:
            return False
        kept = {name: tensor.detach().clone() for name, tensor in self.weights(site).items()}
        self.best[site] = Best(kept, score)
        return True

    def load_best(self, site: str) -> None:
        """Put the weights of a site's best round in place."""
        if self.best[site].weights:
            load_module_tensors(self.networks[site].parts(), self.best[site].weights)

    def validate(self, site: str, data: SiteData, round_number: int) -> dict[str, Any]:
        """Score what a round begins with on a site's validation samples; keep it if it is the best so far.

        Raises:
            TrainingError: a loss is not finite.
        """
        score, loss = self.score(site, data.validation, round_number)
        best, name = self.keep_if_best(site, score), names_of(data.task.name).primary
        return {"round": round_number - 1, name: score, "loss": loss, "best": best}

    def score(self, site: str, split: DataSplit, round_number: int) -> tuple[float | None, float]:
        """Return primary score, None where no class counts, and loss of a site's present weights on a split.

        Raises:
            TrainingError: a loss is not finite.
        """

        def predict(step: int, rows: Tensor, batch: Batch) -> tuple[Tensor]:  # noqa: ARG001 - one signature
            return (self.predict(site, batch.inputs),)

        (found,) = scores_of_validation(
            site, split, self._config.training.batch_size, self.losses[site], round_number, predict
        )
        return found

    def score_of(
        self, site: str, split: DataSplit, round_number: int, weights: dict[str, Tensor]
    ) -> float | None:
        """Return the primary score of other weights of a site's network; its own stay in place."""
        own = {name: tensor.detach().clone() for name, tensor in self.weights(site).items()}
        parts = self.networks[site].parts()
        try:
            load_module_tensors(parts, own | weights)
            return self.score(site, split, round_number)[0]
        finally:
            load_module_tensors(parts, own)

    def test(self, site: str, data: SiteData) -> tuple[dict[str, Any], Previews | None]:
        """Score a site's best round on its test samples; return what it reports, and example predictions."""
        self.load_best(site)

        def predict(step: int, batch: Batch) -> Tensor:  # noqa: ARG001 - one signature for all methods
            return self.predict(site, batch.inputs)

        summary, per_image, previews = scores_of_test(data, self._config.training.batch_size, predict)
        return {"test": summary, names_of(data.task.name).per_image: per_image}, previews

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds."""
        tensors = with_prefix("optimiser", optimiser_tensors(self.optimiser))
        tensors |= with_prefix("weights", module_tensors(self._modules()))
        for number, site in enumerate(self.sites):
            tensors |= with_prefix(f"best.{number}", self.best[site].weights)
        scores = [self.best[site].score for site in self.sites]
        return tensors | {BEST_SCORE: torch.tensor(scores, dtype=torch.float64)}

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Put weights in place that :meth:`state` has under ``weights``."""
        load_module_tensors(self._modules(), tensors)

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        load_optimiser_tensors(self.optimiser, without_prefix("optimiser", tensors))
        self.load_weights(without_prefix("weights", tensors))
        for number, site in enumerate(self.sites):
            kept = without_prefix(f"best.{number}", tensors)
            weights = {name: tensor.to(self._device) for name, tensor in kept.items()}
            self.best[site] = Best(weights, float(tensors[BEST_SCORE][number]))


def _networks(
    plan: WholePlan,
    config: WholeModelConfig,
    data: Mapping[str, SiteData],
    sites: Sequence[str],
    own_each: bool,
) -> dict[str, Network]:
    """Return the networks of sites that have parts in common, all of them or all but the private one."""
    built: dict[tuple[Any, ...], nn.Module] = {}
    networks: dict[str, Network] = {}
    for site in sorted(sites):
        task, secret, parts = data[site].task, data[site].noise_secret, dict[str, nn.Module]()
        plan.check(config.data, task)
        for name in plan.parts:
            own = () if name == plan.common else (secret,)
            key = (*own, name, *plan.kind(name, task))
            place = (site, name) if own_each and name == plan.private else (name, *plan.kind(name, task))
            if place not in built:
                with randomness.seeded_initialisation(config.seed, *key):
                    built[place] = plan.part(name, task)
            parts[name] = built[place]
        networks[site] = plan.whole(parts, task)
    return networks


def _check_finite(values: Mapping[str, float], what: str, site: str, step: str) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"{what} '{name}' of site '{site}' is not finite at round/step {step}; "
                "lower the learning rate or check the images"
            )
