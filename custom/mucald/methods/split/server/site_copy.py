"""One site's copy of the server's networks: its optimiser, its best weights, and one step of training."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import functional_call

from mucald import optimisers
from mucald.errors import TrainingError
from mucald.methods.split.algorithms import Algorithm, Memory
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.daca import Discriminator, FeatureBuffer
from mucald.methods.split.model.objective import Objective, family
from mucald.methods.split.model.segments import SPLITS, ForwardPass, Key, ServerSegments
from mucald.methods.split.server.candidates import Candidates
from mucald.methods.split.server.released_samples import ReleasedSamples, Samples
from mucald.methods.split.server.round_record import ProxyError, RoundRecord
from mucald.methods.split.server.round_start import RoundStart
from mucald.methods.split.server.waiting_steps import BegunStep, WaitingSteps
from mucald.state.averages import gradient_norm
from mucald.state.checkpoint import (
    load_optimiser_tensors,
    optimiser_tensors,
    with_prefix,
    without_prefix,
)
from mucald.state.disk_tensors import DiskTensors
from mucald.tasks import Task


class SiteCopy:
    """The server's segments for one site and everything that goes with them.

    Args:
        site: name of the site.
        domain: the site's number for the discriminators.
        config: the job.
        task: the site's task.
        device: where to compute.
        algorithm: what is done beyond averaging.
        memory: what the algorithm remembers of the rounds before; shared by all copies, frozen in a round.
        aside: folder for the weights that it does not hold in memory.
        keeps_start: whether what the sites share is wanted as it was when the round began.
    """

    def __init__(
        self,
        site: str,
        domain: int,
        config: SplitConfig,
        task: Task,
        device: torch.device,
        algorithm: Algorithm,
        memory: Memory,
        aside: Path,
        keeps_start: bool,
    ):
        self.site, self.domain, self.task = site, domain, task
        self._config, self._device = config, device
        self._algorithm, self._memory, self._objective = algorithm, memory, Objective(config, domain)
        self.segments = self._build(task)
        self._groups = self.segments.groups()
        self._middle = dict(self.segments.middle.named_parameters())
        decay = config.optimiser.weight_decay
        self.optimiser = optimisers.AdamW(self._parameter_groups(), weight_decay=decay, fused=True)
        self._start = RoundStart(config, self.segments, keeps_start, aside / "start", device)
        self._best = DiskTensors(aside / "best", device)
        self.scratch: Memory = {}
        self.candidates = Candidates()
        self._proxy_errors = [ProxyError()]
        self.best_dice = -1.0
        self.record, self.released = RoundRecord(), ReleasedSamples()
        self.features = [FeatureBuffer(config.daca.buffer) for _ in SPLITS]
        self._pending = WaitingSteps(config.wire.pipeline_depth)

    def _build(self, task: Task) -> ServerSegments:
        return ServerSegments(self._config, task).to(self._device)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        optimiser = self._config.optimiser
        rates = {"middle": optimiser.segmentation, "denoiser": optimiser.denoiser}
        return [
            {"params": parameters, "lr": rates.get(family(name), optimiser.causal)}
            for name, parameters in self._groups.items()
        ]

    def begin_round(self) -> None:
        """Start a round with an empty record."""
        self.record = RoundRecord()
        self.features = [FeatureBuffer(self._config.daca.buffer) for _ in SPLITS]
        self._pending.clear()
        self.scratch = {}
        self._proxy_errors = [
            self.record.proxy_error,
            *(ProxyError() for _ in range(1, len(self.candidates))),
        ]
        self._start.forget()

    @property
    def start(self) -> dict[str, Tensor]:
        """What the round's training began with, as far as the job ever compares with it."""
        return self._start.weights()

    @property
    def best(self) -> dict[str, Tensor]:
        """The best round's weights; none if no round has been validated."""
        return self._best.load()

    def discard(self) -> None:
        """Forget the weights that it does not hold in memory: nothing is trained or tested any more."""
        self._best.put({})
        self._start.forget()

    def weights(self) -> dict[str, Tensor]:
        """Return the present weights; after the test those of the best round."""
        return self.segments.state_dict() | self.candidates.changes(0, {})

    def middle_state(self) -> Memory:
        """Return the middle network's present parameters, by name."""
        return {name: parameter.detach() for name, parameter in self._middle.items()}

    def _key(self, *key: int | str) -> Key:
        return (self._config.seed, "server", self.site, *key)

    def train_forward(
        self,
        round_number: int,
        step: int,
        latent: Tensor,
        level: Tensor,
        proxies: tuple[Tensor, Tensor] | None,
        noise: Tensor | None,
        discriminators: Sequence[Discriminator],
    ) -> Tensor:
        """Run a training step up to x̂2, for :meth:`train_backward` to finish; see :class:`.WaitingSteps`.

        Args:
            round_number, step: name the step.
            latent: x_t (B, L, h, w).
            level: t (B,), int64.
            proxies: noised proxies and mask (B, n), or None without a causal part.
            noise: ε, under ``epsilon`` supervision alone.
            discriminators: one per split.

        Returns:
            x̂2 (B, L, h, w), detached.

        Raises:
            TrainingError: a loss term is not finite.
        """
        self._start.note()
        samples = latent.to(self._device), level.to(self._device), proxies
        forward = partial(self._begin, round_number, step, samples, noise, discriminators)
        features = partial(self.segments.features, *samples[:2], self._key(round_number, step, "train"))
        return self._pending.begin(step, forward, features)

    def _begin(
        self,
        round_number: int,
        step: int,
        samples: Samples,
        noise: Tensor | None,
        discriminators: Sequence[Discriminator],
    ) -> BegunStep:
        """Return a step's forward pass and its losses, which are noted."""
        self.segments.train()
        (latent, level, proxies), key = samples, self._key(round_number, step, "train")
        run = self.segments(latent.requires_grad_(), level, key)
        weights = self._objective.weights(round_number)
        if proxies is not None:
            proxies = proxies[0].to(self._device), proxies[1].to(self._device).bool()
        noise = noise.to(self._device) if noise is not None else None
        terms = self._objective.terms(self.segments, run, weights, key, proxies, noise, discriminators)
        total = torch.zeros((), device=self._device)
        for name, (weight, value) in terms.items():
            if not bool(torch.isfinite(value)):
                raise TrainingError(f"loss term '{name}' of site '{self.site}' is not finite at step {step}")
            self.record.losses.add(name, value.item())
            total = total + weight * value
        if self._config.daca.enabled:
            for buffer, output in zip(self.features, (run.first, run.second), strict=True):
                buffer.append(output.denoised)
        return BegunStep(run, total)

    def train_backward(self, step: int, gradient: Tensor) -> Tensor:
        """Finish a training step: backward, clip, and one optimiser step.

        Args:
            step: the step that :meth:`train_forward` began.
            gradient: ∂L/∂x̂2 (B, L, h, w) of the site's own loss.

        Returns:
            ∂L/∂x_t (B, L, h, w) of the whole loss.

        Raises:
            TrainingError: no forward pass of this step is waiting, the gradient's shape is not x̂2's, or a
                module's gradient is not finite.
        """
        begun = self._pending.finish(step, gradient)
        self.optimiser.zero_grad(set_to_none=True)
        (begun.total + (begun.run.second.denoised * gradient.to(self._device)).sum()).backward()
        if (proximal := self._start.add_proximal_gradient(self._middle)) is not None:
            self.record.losses.add("proximal", proximal)
        self._algorithm.adjust_gradients(self.site, self._middle, self._memory, self.scratch)
        for name, parameters in self._groups.items():
            norm = gradient_norm(parameters)
            if not math.isfinite(norm):
                # One step on such a gradient would leave no weight finite.
                raise TrainingError(
                    f"gradient of '{name}' of site '{self.site}' is not finite at step {step}"
                )
            self.record.gradients.add(name, norm)
            # Each on its own: the causal part's gradient is ten times the middle network's.
            torch.nn.utils.clip_grad_norm_(parameters, self._config.optimiser.clip_norm)
        self.optimiser.step()
        # With many sites most copies are at rest at any moment, and need none.
        self.optimiser.zero_grad(set_to_none=True)
        latent_gradient = begun.run.latent.grad
        assert latent_gradient is not None
        return latent_gradient

    @torch.no_grad()
    def evaluate(
        self,
        round_number: int,
        step: int,
        purpose: str,
        latent: Tensor,
        level: Tensor,
        proxies: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return x̂2 in evaluation mode, with noise that ``purpose`` and ``step`` fix.

        With noised proxies (B, n) and their mask, the error of the causal variables at split 1 is noted.

        Returns:
            x̂2 (B, L, h, w); with K states to choose between (B, K·L, h, w), one after the other.

        Raises:
            TrainingError: that error is not finite.
        """
        self.segments.eval()
        arguments = latent.to(self._device), level.to(self._device), self._key(round_number, step, purpose)
        features = []
        for number, error in enumerate(self._proxy_errors):
            run = self._run_candidate(number, arguments)
            if proxies is not None and run.first.z is not None:
                values, present = (tensor.to(self._device) for tensor in proxies)
                if not error.add((run.first.z - values).square()[present.bool()]):
                    raise TrainingError(f"proxy error of site '{self.site}' is not finite at step {step}")
            features.append(run.second.denoised)
        return torch.cat(features, dim=1)

    def _run_candidate(self, number: int, arguments: tuple[Tensor, Tensor, Key]) -> ForwardPass:
        """Run one of :attr:`choice`; the tensors made for it are gone before the next one's are."""
        changes = self.candidates.changes(number, self.segments.state_dict())
        return cast(ForwardPass, functional_call(self.segments, changes, arguments))

    def choose(self, losses: Sequence[float]) -> int:
        """Go on with the state of the least validation loss, and return which of :attr:`choice` it is.

        The proxy error is that of this state from here on.

        Args:
            losses: the site's validation loss with every state.
        """
        self.record.choice = self.candidates.describe(losses)
        index, changes = self.candidates.take(losses, self.segments.state_dict())
        self.record.proxy_error = self._proxy_errors[index]
        self._proxy_errors = [self.record.proxy_error]
        self.segments.load_state_dict(changes, strict=False)
        return index

    def keep_if_best(self, dice: float) -> bool:
        """Keep the present weights if ``dice`` beats every earlier validation; return whether it did.

        Raises:
            CheckpointError: the disk refused them.
        """
        if dice <= self.best_dice:
            return False
        self._best.put(self.segments.state_dict())
        self.best_dice = dice
        return True

    def load_best(self) -> None:
        """Put the best round's weights in place; there is nothing left to choose then."""
        self.candidates, self._proxy_errors = Candidates(), [self.record.proxy_error]
        if self._best:
            self.segments.load_state_dict(self._best.load())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a checkpoint of this copy holds."""
        tensors = with_prefix("segments", self.segments.state_dict())
        tensors |= with_prefix("optimiser", optimiser_tensors(self.optimiser))
        tensors |= with_prefix("best", self.best)
        tensors |= with_prefix("released", self.released.state())
        choice, offered = self.candidates.state()
        tensors |= with_prefix("choice", choice)
        return tensors, {"best_dice": self.best_dice, "task": self.task.name, "choice": offered}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned, but for what has been released since: it stays released."""
        self.segments.load_state_dict(without_prefix("segments", tensors))
        load_optimiser_tensors(self.optimiser, without_prefix("optimiser", tensors))
        self._best.put(without_prefix("best", tensors))
        self.best_dice = state["best_dice"]
        self.released.add_state(without_prefix("released", tensors))
        self.candidates.load_state(without_prefix("choice", tensors), state["choice"], self._device)
        self._start.forget()
        self._pending.clear()
