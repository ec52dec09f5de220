"""A step of training on all of a site's images at once, of which nothing leaves without noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.errors import TrainingError
from mucald.privacy.dp.clipping import SampleGradients

LOSS_SHARE = 0.1
"""Norm of the number by which a sample's loss joins its gradient, in units of the clip: half a percent more
noise on all pays for a loss that may be shown."""
ROWS = 4096
"""Samples of one pass; memory does not grow with a site's images."""


@dataclass(frozen=True)
class PrivateStep:
    """How sums over samples are bounded and noised.

    Args:
        clip: C, bound of the norm of a sample's gradient.
        noise_multiplier: σ, standard deviation of the noise in units of what one sample can change.
        largest_loss: a sample's loss counts as at most this.
    """

    clip: float
    noise_multiplier: float
    largest_loss: float

    @property
    def sensitivity(self) -> float:
        """By how much one sample moves gradient and loss together: C √(1 + share²)."""
        return self.clip * (1 + LOSS_SHARE**2) ** 0.5

    def gradients(
        self,
        module: nn.Module,
        losses: Callable[[Tensor], Tensor],
        count: int,
        key: randomness.Key,
        extra: Callable[[], Tensor] | None = None,
    ) -> float:
        """Set the gradients of ``module`` to the noised mean over all samples; return their noised mean loss.

        Args:
            module: as :class:`.SampleGradients` takes it.
            losses: of the samples with given row numbers, (B,), each at least 0.
            count: number of samples n; the mean is the sum by n.
            key: names the noise; whoever knows it can subtract the noise.
            extra: a loss that no sample takes part in, whose gradient is added to the mean as it is.

        Raises:
            TrainingError: a sample's gradient is not finite.
        """
        sample_gradients = SampleGradients(module)
        sums = [torch.zeros_like(parameter) for parameter in sample_gradients.parameters]
        share = LOSS_SHARE * self.clip / self.largest_loss
        loss = 0.0
        for rows in torch.arange(count).split(ROWS):
            found = sample_gradients.clipped_sum(lambda rows=rows: losses(rows), self.clip)  # type: ignore[misc]
            if not bool(found.norms.isfinite().all()):
                raise TrainingError(
                    "a gradient is not finite; lower the learning rate or check the embeddings"
                )
            for total, part in zip(sums, found.gradients, strict=True):
                total += part
            loss += share * float(found.losses.clamp(0, self.largest_loss).double().sum())
        deviation = self.noise_multiplier * self.sensitivity
        if extra is not None:
            extra_gradients = torch.autograd.grad(extra(), sample_gradients.parameters)
        for number, (parameter, total) in enumerate(zip(sample_gradients.parameters, sums, strict=True)):
            noise = randomness.normal(tuple(total.shape), *key, number, device=total.device)
            parameter.grad = (total + deviation * noise) / count
            if extra is not None:
                parameter.grad += extra_gradients[number]
        loss += deviation * float(randomness.normal((1,), *key, "loss"))
        return loss / share / count
