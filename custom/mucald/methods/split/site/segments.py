"""The site's segments: front end, release, back end, and the loss against labels that never leave."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald import optimisers, randomness
from mucald.errors import TrainingError
from mucald.losses.segmentation import SegmentationLoss
from mucald.methods.split.algorithms import Algorithm, Part
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.mixture import Mixture
from mucald.methods.split.site.release import Release, Released
from mucald.methods.split.site.stand_in import StandIn
from mucald.nets import back_end_of, backbone_of
from mucald.randomness import Key
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

    Whatever computes or takes a step raises :class:`TrainingError` if the latent, the loss or a gradient is
    not finite.

    Args:
        config: the job.
        algorithm: what is done beyond averaging.
        site: name of the site.
        n_classes: classes of its task, background included.
        release: what happens to a latent before it leaves; its secret also seeds the first weights.
        device: where to compute.
    """

    def __init__(
        self,
        config: SplitConfig,
        algorithm: Algorithm,
        site: str,
        n_classes: int,
        release: Release,
        device: torch.device,
    ):
        self._config, self.site, self._release, self.device = config, site, release, device
        backbone = backbone_of(config.network)
        backbone.check_image_size(config.data.image_size)
        # The job's seed alone would tell the server the first weights, and with them how to invert a latent.
        with randomness.seeded_initialisation(config.seed, release.secret, "front_end"):
            self.front_end = backbone.front_end().to(device)
        with randomness.seeded_initialisation(config.seed, release.secret, "back_end", n_classes):
            self.back_end = back_end_of(config.network, n_classes).to(device)
        self._components = algorithm.n_components
        self._mixture = Mixture(self._components).to(device) if self._components > 1 else None
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
        key: Key,
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
        """
        trained = self._unfreeze("front_end") if part == "body" else self._unfreeze("front_end", "back_end")
        released, skips = self._released(images, key)
        features = forward(released).to(self.device).requires_grad_()
        # The skips are cut, so that the front end is differentiated once, when both its gradients are known.
        local = [skip.detach().requires_grad_() for skip in skips]
        losses = self._backward(features, local, labels, key)
        assert features.grad is not None
        latent_gradient = backward(self._release.gradient(features.grad, *key)).to(self.device)
        skip_gradients = [torch.zeros_like(s) if s.grad is None else s.grad for s in local]
        torch.autograd.backward([released.latent, *skips], [latent_gradient, *skip_gradients])
        return StepResult(losses, self._update(trained, key))

    def train_back_end(
        self,
        skips: Sequence[Tensor],
        labels: Tensor,
        key: Key,
        forward: Callable[[], Tensor],
        backward: Callable[[Tensor], None] | None = None,
    ) -> StepResult:
        """Train the back end alone on one mini-batch, the front end frozen.

        Args:
            skips: of its images, see :meth:`released` and :meth:`skips`.
            labels: class numbers (B, H, W).
            key: names the noise on the gradient.
            forward: returns x̂2.
            backward: sends ∂L/∂x̂2 as the release lets it out; None where the server is frozen too.
        """
        trained = self._unfreeze("back_end")
        features = forward().to(self.device).requires_grad_(backward is not None)
        losses = self._backward(features, skips, labels, key)
        if backward is not None:
            assert features.grad is not None
            backward(self._release.gradient(features.grad, *key))
        return StepResult(losses, self._update(trained, key))

    def train_alone(self, images: Tensor, labels: Tensor, key: Key, stand_in: StandIn | None) -> StepResult:
        """Train front and back end on one mini-batch without the server.

        Args:
            images: (B, 3, H, W).
            labels: class numbers (B, H, W).
            key: names the noise.
            stand_in: makes the features of what would be released, and learns too; without it that itself is
                taken for the features.
        """
        trained = self._unfreeze("front_end", "back_end")
        rehearsed, skips = self._released(images, key)
        features = rehearsed.latent if stand_in is None else stand_in(rehearsed.latent)
        segmentation = self.loss(self.back_end(features, skips), labels.to(self.device))
        self._check_finite(segmentation, "segmentation loss", key)
        self.optimiser.zero_grad(set_to_none=True)
        segmentation.backward()
        gradients = self._update(trained, key)
        if stand_in is not None:
            gradients["middle"] = stand_in.step()
            self._check_finite(torch.tensor(gradients["middle"]), "gradient of the middle", key)
        return StepResult({"segmentation": segmentation.item()}, gradients)

    @torch.no_grad()
    def released(self, images: Tensor, key: Key) -> tuple[Released, list[Tensor]]:
        """Return the release of images (B, 3, H, W) and their skips, the front end in evaluation mode."""
        self.front_end.eval()
        return self._released(images, key)

    @torch.no_grad()
    def skips(self, images: Tensor) -> list[Tensor]:
        """Return the skips alone of images (B, 3, H, W), the front end in evaluation mode."""
        self.front_end.eval()
        return list(self.front_end(images.to(self.device))[1])

    def _released(self, images: Tensor, key: Key) -> tuple[Released, list[Tensor]]:
        """Return what leaves of images (B, 3, H, W), and the front end's skips, which stay."""
        latent, skips = self.front_end(images.to(self.device))
        released = self._release.latent(latent, *key)
        self._check_finite(released.latent, "latent", key)
        return released, skips

    def _unfreeze(self, *trained: str) -> dict[str, nn.Module]:
        """Prepare a step that trains the segments named, and return them; the others do not change."""
        for name, segment in self.ends.items():
            segment.train(name in trained).requires_grad_(name in trained)
        return {name: self.ends[name] for name in trained}

    def _backward(
        self, features: Tensor, skips: Sequence[Tensor], labels: Tensor, key: Key
    ) -> dict[str, float]:
        """Differentiate the loss of the back end's output and return its terms."""
        logits, labels = self._logits(features, skips), labels.to(self.device)
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
        return [self.back_end(part, skips) for part in features.chunk(self._components, dim=1)]

    def _update(self, trained: dict[str, nn.Module], key: Key) -> dict[str, float]:
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

    def scale_rate(self, factor: float) -> None:
        """Take the coming steps with ``factor`` times the job's learning rate."""
        optimisers.scale_rates(self.optimiser, factor)

    def begin_round(self) -> None:
        """Begin to train for a round."""
        if self._mixture is not None:
            self._mixture.begin_round()

    def end_round(self) -> None:
        """End a round of training."""
        if self._mixture is not None:
            self._mixture.end_round()

    def _check_finite(self, tensor: Tensor, term: str, key: Key) -> None:
        if not bool(torch.isfinite(tensor).all()):
            raise TrainingError(
                f"{term} of site '{self.site}' is not finite at round/step {key[0]}/{key[1]}; "
                "lower the learning rate or check the images"
            )

    @torch.no_grad()
    def predictions(self, features: Tensor, skips: Sequence[Tensor]) -> list[Tensor]:
        """Return logits (B, C, H, W) with each of the server's K states, the back end in evaluation mode.

        Args:
            features: x̂2 of all states (B, K·L, h, w), a mixture's as many times wider as it has components.
            skips: of the images.
        """
        self.back_end.eval()
        width = self._config.network.latent_channels * self._components
        # In one piece each, so that the numbers are those of a state that comes alone.
        states = [one.contiguous() for one in features.to(self.device).split(width, dim=1)]
        logits = [self._logits(of_state, skips) for of_state in states]
        return [one[0] if self._mixture is None else self._mixture.predict(one) for one in logits]

    def predict(
        self, images: Tensor, key: Key, forward: Callable[[Released], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, C, H, W), and those that the site gets without the server: with x̂2 put to zero.

        Args:
            images: (B, 3, H, W).
            key: names the release's noise.
            forward: sends a release, returns x̂2.
        """
        released, skips = self.released(images, key)
        features = forward(released)
        (logits,), (alone,) = (self.predictions(x, skips) for x in (features, torch.zeros_like(features)))
        return logits, alone

    def keep_best(self) -> None:
        """Keep the present weights as the best."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.weights().items()}

    def load_best(self) -> None:
        """Put the best round's weights in place."""
        if self.best:
            load_module_tensors(self._modules(), self.best)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights: ``front_end.…``, ``back_end.…`` and, of a mixture, ``mixture.…``."""
        return module_tensors(self._modules())

    @property
    def ends(self) -> dict[str, nn.Module]:
        """Front and back end by name."""
        return {"front_end": self.front_end, "back_end": self.back_end}

    def _modules(self) -> dict[str, nn.Module]:
        return self.ends if self._mixture is None else self.ends | {"mixture": self._mixture}

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the segments holds."""
        tensors = with_prefix("weights", self.weights())
        tensors |= with_prefix("optimiser", optimiser_tensors(self.optimiser))
        return tensors | with_prefix("best", self.best)

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        load_module_tensors(self._modules(), without_prefix("weights", tensors))
        load_optimiser_tensors(self.optimiser, without_prefix("optimiser", tensors))
        self.best = {name: t.to(self.device) for name, t in without_prefix("best", tensors).items()}
