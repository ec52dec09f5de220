"""A site's half of the protocol: what it asks of the server in one round, step by step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mucald.errors import WireError
from mucald.federation.method import Send
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.site.release import Released
from mucald.methods.split.wire.messages import Field, Phase, decode, payload_types
from mucald.methods.split.wire.weight_vector import PIECE, length
from mucald.wire.link import Link
from mucald.wire.traffic import Traffic

NoisedProxies = tuple[Tensor, Tensor]
"""Noised proxies (N, n), float32, and the mask of those present (N, n), uint8."""


class Exchange:
    """Talks to the server during one round.

    Args:
        send: carries a request to the server and returns its reply.
        config: the job.
        site: name of the site.
        round_number: number of complete rounds before this one.

    Attributes:
        steps: how many training steps the round has; told to the server where its learning rates change.
    """

    def __init__(self, send: Send, config: SplitConfig, site: str, round_number: int):
        self._link = Link(send, decode, payload_types(config.wire), (config.seed, site))
        self.round, self.steps = round_number, 0
        self._tells_steps = config.training.scheduled
        self._sends_noise = config.crdm.supervision == "epsilon"

    def train_forward(self, step: int, released: Released, proxies: NoisedProxies | None) -> Tensor:
        """Send a training release and return x̂2 (B, L, h, w)."""
        fields = _release_fields(released, proxies) | self._steps()
        phase = Phase.TRAIN_FORWARD
        if self._sends_noise and released.noise is not None:
            phase = Phase.TRAIN_FORWARD_WITH_NOISE
            fields[Field.NOISE] = released.noise
        return self._request(phase, step, fields)[Field.FEATURES]

    def train_backward(self, step: int, gradient: Tensor) -> Tensor:
        """Send ∂L/∂x̂2 and return ∂L/∂x_t, both (B, L, h, w)."""
        fields = self._request(Phase.TRAIN_BACKWARD, step, {Field.FEATURE_GRADIENT: gradient})
        return fields[Field.LATENT_GRADIENT]

    def evaluate(
        self, phase: Phase, step: int, released: Released, proxies: NoisedProxies | None = None
    ) -> Tensor:
        """Send a release that no backward message follows, in ``phase``, and return x̂2.

        Returns:
            (B, L, h, w); in ``VALIDATE`` (B, K·L, h, w) where the site has to choose between K states.
        """
        return self._request(phase, step, _release_fields(released, proxies))[Field.FEATURES]

    def release(self, step: int, released: Released, proxies: NoisedProxies | None) -> None:
        """Hand over the mini-batch number ``step`` of the training images, in their order, for good."""
        self._request(Phase.RELEASE, step, _release_fields(released, proxies))

    def train_released(self, step: int, rows: Tensor) -> Tensor:
        """Return x̂2 of a training step on samples that the server has, ``rows`` (B,)."""
        fields = {Field.INDICES: rows} | self._steps()
        return self._request(Phase.TRAIN_FORWARD_RELEASED, step, fields)[Field.FEATURES]

    def validate_released(self, step: int, rows: Tensor) -> Tensor:
        """Return x̂2 of validation samples that the server has, ``rows`` (B,), as :meth:`evaluate` does."""
        return self._request(Phase.VALIDATE_RELEASED, step, {Field.INDICES: rows})[Field.FEATURES]

    def backward_released(self, step: int, gradient: Tensor) -> None:
        """Send ∂L/∂x̂2 (B, L, h, w) of samples that the server has; nothing comes back."""
        self._request(Phase.TRAIN_BACKWARD_RELEASED, step, {Field.FEATURE_GRADIENT: gradient})

    def fetch_front_end(self) -> Tensor:
        """Return the weights (n,) of the front end that the site begins the task with."""
        return self._request(Phase.FETCH_FRONT_END, 0, {})[Field.WEIGHTS]

    def give_front_end(self, weights: Tensor) -> None:
        """Send the weights (n,) of the front end after training."""
        self._request(Phase.GIVE_FRONT_END, 0, {Field.WEIGHTS: weights})

    def fetch_middle(self, like: nn.Module) -> Tensor:
        """Return the weights (n,) of the middle network that the server hands over; ``like`` has as many."""
        pieces = range(math.ceil(length(like, statistics=True) / PIECE))
        return torch.cat([self._request(Phase.FETCH_MIDDLE, n, {})[Field.WEIGHTS] for n in pieces])

    def report(self, scores: Sequence[tuple[float | None, float]]) -> tuple[bool, int]:
        """Send the validation's Dice and loss with every state, the server's choice being the least loss.

        Returns:
            whether the chosen state's are the site's best so far, and which was chosen.

        Raises:
            WireError: the server's choice is none of them.
        """
        # A validation in which no class counts can never be the best.
        numbers = [[-1.0 if dice is None else dice, loss] for dice, loss in scores]
        counters = torch.tensor(numbers, dtype=torch.float64).flatten()
        best, *chosen = self._request(Phase.REPORT, 0, {Field.COUNTERS: counters})[Field.COUNTERS].tolist()
        index = int(chosen[0]) if len(scores) > 1 and chosen else 0
        if not 0 <= index < len(scores):
            raise WireError(f"the server chose state {index} of {len(scores)}")
        return bool(best), index

    @property
    def traffic(self) -> Traffic:
        """Bytes and seconds so far."""
        return self._link.traffic

    def _steps(self) -> dict[Field, Tensor]:
        return {Field.STEPS: torch.tensor([self.steps])} if self._tells_steps else {}

    def _request(self, phase: Phase, step: int, fields: dict[Field, Tensor]) -> dict[Field, Tensor]:
        return self._link.request(phase, self.round, step, fields)


def _release_fields(released: Released, proxies: NoisedProxies | None) -> dict[Field, Tensor]:
    fields = {Field.LATENT: released.latent, Field.LEVEL: released.level}
    if proxies is not None:
        fields |= {Field.PROXIES: proxies[0], Field.PROXY_MASK: proxies[1]}
    return fields
