"""The site's segments: front end, release, back end, and the loss against labels that never leave."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald import optimisers, randomness
from mucald.errors import TrainingError
from mucald.losses.segmentation import SegmentationLoss
from mucald.methods.split.algorithms import Part, algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.mixture import Mixture
from mucald.methods.split.site.release import Release, Released
from mucald.methods.split.wire import weight_vector as shared
from mucald.nets import back_end_of, backbone_of
from mucald.state.averages import gradient_norm
from mucald.state.checkpoint import (
    load_module_tensors,
    load_optimiser_tensors,
    module_tensors,
    optimiser_tensors,
    with_prefix,
    without_prefix,
)


@dataclass(frozen=True)
class StepResult:
    """Mean losses of one training step and the trained segments' gradient norms before clipping."""

    losses: dict[str, float]
    gradients: dict[str, float]


class SiteSegments:
    """The networks of one site.

    Args:
        config: the job.
        site: name of the site.
        n_classes: classes of its task, background included.
        release: what happens to a latent before it leaves; its secret also seeds the first weights.
        device: where to compute.
    """

    def __init__(
        self, config: SplitConfig, site: str, n_classes: int, release: Release, device: torch.device
    ):
        self._config, self._site, self._release, self._device = config, site, release, device
        backbone = backbone_of(config.network)
        backbone.check_image_size(config.data.image_size)
        # The job's seed alone would tell the server the first weights, and with them how to invert a latent.
        with randomness.seeded_initialisation(config.seed, release.secret, "front_end"):
            self.front_end = backbone.front_end().to(device)
        with randomness.seeded_initialisation(config.seed, release.secret, "back_end", n_classes):
            self.back_end = back_end_of(config.network, n_classes).to(device)
        components = algorithm_of(config).n_components
        self._mixture = Mixture(components).to(device) if components > 1 else None
        self.loss = SegmentationLoss(n_classes, config.losses.cross_entropy)
        self.optimiser = optimisers.AdamW(
            [*self.front_end.parameters(), *self.back_end.parameters()],
            lr=config.optimiser.segmentation,
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )
        self.best: dict[str, Tensor] = {}

    def train_step(
        self,
        images: Tensor,
        labels: Tensor,
        key: tuple[int | str, ...],
        forward: Callable[[Released], Tensor],
        backward: Callable[[Tensor], Tensor],
        part: Part = "all",
    ) -> StepResult:
        """Train on one mini-batch, both segments or, with the part ``body``, the front end alone.

        Args:
            images: (B, 3, H, W).
            labels: class numbers (B, H, W).
            key: names the release's noise; never used twice.
            forward: sends a release, returns x̂2.
            backward: sends ∂L/∂x̂2 as the release lets it out, returns ∂L/∂x_t.
            part: what is trained.

        Raises:
            TrainingError: the latent, the loss or a gradient is not finite.
        """
        trained = self._unfreeze("front_end") if part == "body" else self._unfreeze("front_end", "back_end")
        released, skips = self._released(images, key)
        features = forward(released).to(self._device).requires_grad_()
        # The skips are cut, so that the front end is differentiated once, when both its gradients are known.
        local = [skip.detach().requires_grad_() for skip in skips]
        losses = self._backward(features, local, labels, key)
        assert features.grad is not None
        latent_gradient = backward(self._release.gradient(features.grad, *key)).to(self._device)
        skip_gradients = [torch.zeros_like(s) if s.grad is None else s.grad for s in local]
        torch.autograd.backward([released.latent, *skips], [latent_gradient, *skip_gradients])
        return StepResult(losses, self._update(trained, key))

    def train_head(
        self,
        images: Tensor,
        labels: Tensor,
        key: tuple[int | str, ...],
        forward: Callable[[Released], Tensor],
    ) -> StepResult:
        """Train the back end alone on one mini-batch, the front end frozen and in evaluation mode.

        Args:
            images, labels, key, forward: as in :meth:`train_step`; the server's networks are frozen too.

        Raises:
            TrainingError: the latent, the loss or a gradient is not finite.
        """
        trained = self._unfreeze("back_end")
        with torch.no_grad():
            released, skips = self._released(images, key)
        losses = self._backward(forward(released).to(self._device), skips, labels, key)
        return StepResult(losses, self._update(trained, key))

    def _released(self, images: Tensor, key: tuple[int | str, ...]) -> tuple[Released, list[Tensor]]:
        """Return what leaves of images (B, 3, H, W), and the front end's skips, which stay."""
        latent, skips = self.front_end(images.to(self._device))
        released = self._release.latent(latent, *key)
        self._check_finite(released.latent, "latent", key)
        return released, skips

    def _unfreeze(self, *trained: str) -> dict[str, nn.Module]:
        """Prepare a step that trains the segments named, and return them; the others do not change."""
        segments: dict[str, nn.Module] = {"front_end": self.front_end, "back_end": self.back_end}
        for name, segment in segments.items():
            segment.train(name in trained).requires_grad_(name in trained)
        return {name: segments[name] for name in trained}

    def _backward(
        self, features: Tensor, skips: Sequence[Tensor], labels: Tensor, key: tuple[int | str, ...]
    ) -> dict[str, float]:
        """Differentiate the loss of the back end's output and return its terms."""
        logits, labels = self._logits(features, skips), labels.to(self._device)
        if self._mixture is None:
            terms = self.loss.terms(logits[0], labels)
        else:
            terms = self._mixture.terms(self.loss, logits, labels)
        segmentation = self.loss.combine(terms)
        self._check_finite(segmentation, "segmentation loss", key)
        self.optimiser.zero_grad(set_to_none=True)
        segmentation.backward()
        return {name: value.item() for name, value in {**terms, "segmentation": segmentation}.items()}

    def _logits(self, features: Tensor, skips: Sequence[Tensor]) -> list[Tensor]:
        """Return the back end's output for every component's features."""
        components = 1 if self._mixture is None else len(self._mixture.weights)
        return [self.back_end(part, skips) for part in features.chunk(components, dim=1)]

    def _update(self, trained: dict[str, nn.Module], key: tuple[int | str, ...]) -> dict[str, float]:
        """Clip the gradients, take the optimiser's step, and return the norms before clipping."""
        gradients = {name: gradient_norm(segment.parameters()) for name, segment in trained.items()}
        # One step on such a gradient would leave no weight finite.
        for name, norm in gradients.items():
            self._check_finite(torch.tensor(norm), f"gradient of the {name}", key)
        parameters = [parameter for segment in trained.values() for parameter in segment.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, self._config.optimiser.clip_norm)
        # Those that are frozen have no gradient, so the optimiser passes them over.
        self.optimiser.step()
        return gradients

    def begin_round(self) -> None:
        """Begin to train for a round."""
        if self._mixture is not None:
            self._mixture.begin_round()

    def end_round(self) -> None:
        """End a round of training."""
        if self._mixture is not None:
            self._mixture.end_round()

    def _check_finite(self, tensor: Tensor, term: str, key: tuple[int | str, ...]) -> None:
        if not bool(torch.isfinite(tensor).all()):
            raise TrainingError(
                f"{term} of site '{self._site}' is not finite at round/step {key[0]}/{key[1]}; "
                "lower the learning rate or check the images"
            )

    @torch.no_grad()
    def predict(
        self, images: Tensor, key: tuple[int | str, ...], forward: Callable[[Released], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, C, H, W), and those that the site gets without the server: with x̂2 put to zero.

        Args:
            images: (B, 3, H, W).
            key: names the release's noise.
            forward: sends a release, returns x̂2.

        Raises:
            TrainingError: the latent is not finite.
        """
        (features,), skips = self._evaluate(images, key, forward)
        return self._combined(features, skips), self._combined(torch.zeros_like(features), skips)

    @torch.no_grad()
    def predict_each(
        self, images: Tensor, key: tuple[int | str, ...], forward: Callable[[Released], Tensor]
    ) -> list[Tensor]:
        """Return the logits (B, C, H, W) with each of the server's K states.

        Args:
            images: (B, 3, H, W).
            key: names the release's noise.
            forward: sends a release, returns the x̂2 of all states, (B, K·L, h, w).

        Raises:
            TrainingError: the latent is not finite.
        """
        features, skips = self._evaluate(images, key, forward)
        return [self._combined(of_state, skips) for of_state in features]

    def _evaluate(
        self, images: Tensor, key: tuple[int | str, ...], forward: Callable[[Released], Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the x̂2 (B, L, h, w) of each state of the server, and the front end's skips."""
        self.front_end.eval()
        self.back_end.eval()
        released, skips = self._released(images, key)
        return self._by_state(forward(released), released.latent.shape[1]), skips

    def _by_state(self, features: Tensor, channels: int) -> list[Tensor]:
        # A mixture's features are as many times wider as it has components.
        width = channels * (1 if self._mixture is None else len(self._mixture.weights))
        # In one piece each, so that the numbers are those of a state that comes alone.
        return [of_state.contiguous() for of_state in features.to(self._device).split(width, dim=1)]

    def _combined(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        logits = self._logits(features, skips)
        return logits[0] if self._mixture is None else self._mixture.predict(logits)

    def front_end_weights(self) -> Tensor:
        """Return the front end as a vector (n,), for an algorithm that shares it."""
        return shared.to_vector(self.front_end, self._config.aggregation.statistics)

    def load_front_end(self, weights: Tensor) -> None:
        """Overwrite the front end by a vector (n,); the optimiser's state stays.

        Raises:
            WireError: it has another length.
        """
        shared.from_vector(self.front_end, weights, self._config.aggregation.statistics)

    def keep_best(self) -> None:
        """Keep the present weights as the best."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.weights().items()}

    def load_best(self) -> None:
        """Put the best round's weights in place."""
        if self.best:
            self._load_weights(self.best)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights: ``front_end.…``, ``back_end.…`` and, of a mixture, ``mixture.…``."""
        return module_tensors(self._modules())

    def _load_weights(self, tensors: dict[str, Tensor]) -> None:
        load_module_tensors(self._modules(), tensors)

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"front_end": self.front_end, "back_end": self.back_end}
        return modules if self._mixture is None else modules | {"mixture": self._mixture}

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the site holds."""
        tensors = with_prefix("weights", self.weights())
        tensors |= with_prefix("optimiser", optimiser_tensors(self.optimiser))
        return tensors | with_prefix("best", self.best)

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self._load_weights(without_prefix("weights", tensors))
        load_optimiser_tensors(self.optimiser, without_prefix("optimiser", tensors))
        self.best = {name: t.to(self._device) for name, t in without_prefix("best", tensors).items()}
