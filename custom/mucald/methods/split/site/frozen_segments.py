"""The segments of a site that freezes its front end before it releases anything."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mucald.methods.split.site.release import Released
from mucald.methods.split.site.segments import SiteSegments, StepResult
from mucald.methods.split.site.stand_in import StandIn
from mucald.state.checkpoint import with_prefix, without_prefix


class FrozenSegments(SiteSegments):
    """A site's networks under ``release.mode`` = ``once``; arguments as of :class:`SiteSegments`.

    Attributes:
        pretraining: mean loss of every epoch of pre-training; None before it.
        released: the splits whose samples the server has.
    """

    def __init__(self, *args: Any, **named: Any):
        super().__init__(*args, **named)
        self.pretraining: list[float] | None = None
        self.released: set[str] = set()
        self._stand_in: StandIn | None = None

    def pretrain_step(self, images: Tensor, labels: Tensor, key: tuple[int | str, ...]) -> StepResult:
        """Train front and back end on one mini-batch without the server.

        In place of the server's features the back end reads what would be released, or what a network of
        the site's own (:class:`StandIn`) makes of it. So the front end learns a latent that bears the noise,
        at any cut. With no features at all, the layers that only the latent depends on would learn nothing;
        at cut 0, without local skips, these are all.

        Args:
            images: (B, 3, H, W).
            labels: class numbers (B, H, W).
            key: names the noise.

        Raises:
            TrainingError: the latent, the loss or a gradient is not finite.
        """
        if self._config.release.stand_in and self._stand_in is None:
            self._stand_in = StandIn(self._config, self._device)
        trained = self._unfreeze("front_end", "back_end")
        rehearsed, skips = self._released(images, key)
        features = rehearsed.latent if self._stand_in is None else self._stand_in(rehearsed.latent)
        terms = self.loss.terms(self.back_end(features, skips), labels.to(self._device))
        segmentation = self.loss.combine(terms)
        self._check_finite(segmentation, "segmentation loss", key)
        self.optimiser.zero_grad(set_to_none=True)
        segmentation.backward()
        gradients = self._update(trained, key)
        if self._stand_in is not None:
            gradients["middle"] = self._stand_in.step()
            self._check_finite(torch.tensor(gradients["middle"]), "gradient of the middle", key)
        return StepResult({"segmentation": segmentation.item()}, gradients)

    def end_pretraining(self, losses: list[float]) -> None:
        """Keep the epochs' mean losses, and drop what stood in for the server."""
        self.pretraining, self._stand_in = losses, None

    @torch.no_grad()
    def release(self, images: Tensor, key: tuple[int | str, ...]) -> Released:
        """Return the release of images (B, 3, H, W).

        Raises:
            TrainingError: the latent is not finite.
        """
        self.front_end.eval()
        return self._released(images, key)[0]

    @torch.no_grad()
    def skips(self, images: Tensor) -> list[Tensor]:
        """Return what the frozen front end gives of images (B, 3, H, W) to the back end."""
        self.front_end.eval()
        _, skips = self.front_end(images.to(self._device))
        return list(skips)

    def train_released(
        self,
        skips: Sequence[Tensor],
        labels: Tensor,
        key: tuple[int | str, ...],
        forward: Callable[[], Tensor],
        backward: Callable[[Tensor], None],
    ) -> StepResult:
        """Train the back end on one mini-batch that the server has, the front end frozen.

        Args:
            skips: of its images, see :meth:`skips`.
            labels: class numbers (B, H, W).
            key: names the noise on the gradient.
            forward: returns x̂2.
            backward: sends ∂L/∂x̂2 as the release lets it out.

        Raises:
            TrainingError: the loss or a gradient is not finite.
        """
        trained = self._unfreeze("back_end")
        features = forward().to(self._device).requires_grad_()
        losses = self._backward(features, skips, labels, key)
        assert features.grad is not None
        backward(self._release.gradient(features.grad, *key))
        return StepResult(losses, self._update(trained, key))

    @torch.no_grad()
    def predict_released(self, images: Tensor, forward: Callable[[], Tensor]) -> list[Tensor]:
        """Return the logits (B, C, H, W) of images that the server has with each of its K states.

        Args:
            images: (B, 3, H, W).
            forward: returns the x̂2 of all states, (B, K·L, h, w).
        """
        self.front_end.eval()
        self.back_end.eval()
        latent, skips = self.front_end(images.to(self._device))
        return [self._combined(features, skips) for features in self._by_state(forward(), latent.shape[1])]

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the site holds."""
        tensors = super().state() | with_prefix("released", {s: torch.ones(1) for s in self.released})
        if self.pretraining is not None:
            tensors["pretraining"] = torch.tensor(self.pretraining, dtype=torch.float64)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        super().load_state(tensors)
        self.released = set(without_prefix("released", tensors))
        losses = tensors.get("pretraining")
        self.pretraining = None if losses is None else losses.tolist()
