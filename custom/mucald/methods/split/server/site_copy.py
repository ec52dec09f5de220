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
from mucald.aggregation import State
from mucald.errors import TrainingError
from mucald.methods.split.model.daca import Discriminator, FeatureBuffer
from mucald.methods.split.model.objective import Objective, unnumbered
from mucald.methods.split.model.segments import CRDMS, ForwardPass, ServerSegments
from mucald.methods.split.server.kept_weights import BestWeights, RoundStart
from mucald.methods.split.server.released_samples import ReleasedSamples, Samples
from mucald.methods.split.server.round_tally import ProxyError, RoundTally
from mucald.methods.split.server.shared_networks import CopyPlan
from mucald.methods.split.server.state_choice import StateChoice
from mucald.methods.split.server.waiting_steps import StartedStep, WaitingSteps
from mucald.randomness import Key
from mucald.state.averages import gradient_norm
from mucald.state.checkpoint import (
    load_optimiser_tensors,
    optimiser_tensors,
    with_prefix,
    without_prefix,
)
from mucald.tasks import get_task


class SiteCopy:
    """The server's segments for one site and everything that goes with them.

    Where the sites work in turn all train one set of the shared networks, causal models and priors apart. A
    site then validates what the round began with, whoever has trained since.

    Args:
        site: name of the site.
        plan: what it has in common with the others.
        folder: for the weights that it does not hold in memory.
    """

    def __init__(self, site: str, plan: CopyPlan, folder: Path):
        config, device = plan.config, plan.device
        self.site, self.domain = site, list(config.sites).index(site)
        self.task = get_task(config.site(site).task)
        self._plan, self._config, self._device = plan, config, device
        self._objective = Objective(config, self.domain)
        self.segments = ServerSegments(config, plan.algorithm, self.task).to(device)
        if plan.algorithm.in_turn:
            plan.shared.put_into(self.segments)
        self._groups = self.segments.groups()
        self._middle = dict(self.segments.middle.named_parameters())
        decay = config.optimiser.weight_decay
        self.optimiser = optimisers.AdamW(self._parameter_groups(), weight_decay=decay, fused=True)
        self._start = RoundStart(config, self.segments, plan.keeps_start, folder / "start", device)
        self.best = BestWeights(self.segments, plan.shared, folder / "best", device)
        self.scratch: State = {}
        self.candidates = StateChoice()
        self._proxy_errors = [ProxyError()]
        self.tally, self.released = RoundTally(), ReleasedSamples()
        self.features = [FeatureBuffer(config.daca.buffer) for _ in CRDMS]
        self._waiting = WaitingSteps(config.wire.pipeline_depth)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        optimiser = self._config.optimiser
        rates = {"middle": optimiser.segmentation, "denoiser": optimiser.denoiser}
        return [
            {"params": parameters, "lr": rates.get(unnumbered(name), optimiser.causal)}
            for name, parameters in self._groups.items()
        ]

    def begin_round(self) -> None:
        """Start a round, or the site's turn in it, with an empty tally."""
        self.tally = RoundTally()
        self.features = [FeatureBuffer(self._config.daca.buffer) for _ in CRDMS]
        self.scratch, shared = {}, self._plan.shared
        self.candidates.fixed = shared.start_of(shared.round)
        others = (ProxyError() for _ in range(1, len(self.candidates)))
        self._proxy_errors = [self.tally.proxy_error, *others]
        self._forget_steps()

    def _forget_steps(self) -> None:
        self._start.forget()
        self._waiting.clear()

    def begin_turn(self) -> None:
        """Take over what all sites train from the one before."""
        self._plan.shared.begin_turn(self.optimiser)

    def end_turn(self) -> None:
        """Leave what all sites train to the next."""
        self._plan.shared.end_turn(self.optimiser)
        if self._plan.algorithm.in_turn:
            self._start.forget()

    @property
    def start(self) -> State:
        """What the round's training began with, as far as the job ever compares with it."""
        return self._start.weights()

    def discard(self) -> None:
        """Forget the weights that it does not hold in memory: nothing is trained or tested any more."""
        self.best.discard()
        self._start.forget()

    def weights(self) -> State:
        """Return the present weights; after the test those of the best round."""
        return self.segments.state_dict() | self.candidates.fixed

    def middle_state(self) -> State:
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
        rate: float = 1.0,
    ) -> Tensor:
        """Run a training step up to x̂2, for :meth:`train_backward` to finish; see :class:`.WaitingSteps`.

        Args:
            round_number, step: name the step.
            latent: x_t (B, L, h, w).
            level: t (B,), int64.
            proxies: noised proxies and mask (B, n), or None without a causal part.
            noise: ε, under ``epsilon`` supervision alone.
            discriminators: one per CRDM.
            rate: factor of the learning rates.

        Returns:
            x̂2 (B, L, h, w), detached.

        Raises:
            TrainingError: a loss term is not finite.
        """
        self._start.note()
        samples = latent.to(self._device), level.to(self._device), proxies
        forward = partial(self._forward, round_number, step, samples, noise, discriminators, rate)
        features = partial(self.segments.features, *samples[:2], self._key(round_number, step, "train"))
        return self._waiting.begin(step, forward, features)

    def _forward(
        self,
        round_number: int,
        step: int,
        samples: Samples,
        noise: Tensor | None,
        discriminators: Sequence[Discriminator],
        rate: float,
    ) -> StartedStep:
        """Return a step's forward pass and its losses, which are noted."""
        self.segments.train()
        (latent, level, proxies), key = samples, self._key(round_number, step, "train")
        run = self.segments(latent.requires_grad_(), level, key)
        weights = self._objective.weights(round_number)
        if proxies is not None:
            proxies = proxies[0].to(self._device), proxies[1].to(self._device).bool()
        noise = noise.to(self._device) if noise is not None else None
        terms = self._objective.terms(self.segments, run, weights, key, proxies, noise, discriminators)
        total = torch.zeros((), device=self._device, requires_grad=True)  # also of a job without terms
        for name, (weight, value) in terms.items():
            if not bool(torch.isfinite(value)):
                raise TrainingError(f"loss term '{name}' of site '{self.site}' is not finite at step {step}")
            self.tally.losses.add(name, value.item())
            total = total + weight * value
        if self._config.daca.enabled:
            for buffer, output in zip(self.features, (run.first, run.second), strict=True):
                buffer.append(output.denoised)
        return StartedStep(run, total, rate)

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
        started = self._waiting.finish(step, gradient)
        self.optimiser.zero_grad(set_to_none=True)
        # No new node joins the graph: autograd numbers nodes by thread, and a transport may answer in another
        # thread than the forward pass had; then gradients would be added up in another order.
        roots = [started.run.second.denoised, started.total]
        torch.autograd.backward(roots, [gradient.to(self._device), None])
        if (proximal := self._start.add_proximal_gradient(self._middle)) is not None:
            self.tally.losses.add("proximal", proximal)
        plan = self._plan
        plan.algorithm.adjust_gradients(self.site, self._middle, plan.algorithm_state, self.scratch)
        for name, parameters in self._groups.items():
            norm = gradient_norm(parameters)
            if not math.isfinite(norm):
                # One step on such a gradient would leave no weight finite.
                raise TrainingError(
                    f"gradient of '{name}' of site '{self.site}' is not finite at step {step}"
                )
            self.tally.gradients.add(name, norm)
            # Each on its own: the causal part's gradient is ten times the middle network's.
            torch.nn.utils.clip_grad_norm_(parameters, self._config.optimiser.clip_norm)
        optimisers.scale_rates(self.optimiser, started.rate)
        self.optimiser.step()
        # With many sites most copies are at rest at any moment, and need none.
        self.optimiser.zero_grad(set_to_none=True)
        assert started.run.latent.grad is not None
        return started.run.latent.grad

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

        With noised proxies (B, n) and their mask, the error of the causal variables of CRDM-1 is noted.

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
        """Run one of :attr:`candidates`; the tensors made for it are gone before the next one's are."""
        changes = self.candidates.changes(number, self.segments.state_dict())
        return cast(ForwardPass, functional_call(self.segments, changes, arguments))

    def choose(self, losses: Sequence[float]) -> int:
        """Go on with the state of the least validation loss, and return which of :attr:`candidates` it is.

        The proxy error is that of this state from here on.

        Args:
            losses: the site's validation loss with every state.
        """
        self.tally.choice = self.candidates.describe(losses)
        index, changes = self.candidates.take(losses, self.segments.state_dict())
        self.tally.proxy_error = self._proxy_errors[index]
        self._proxy_errors = [self.tally.proxy_error]
        self.segments.load_state_dict(changes, strict=False)
        return index

    def load_best(self) -> None:
        """Put the best round's weights in place; there is nothing left to choose then."""
        shared, best = self._plan.shared, self.best
        self.candidates, self._proxy_errors = StateChoice(), [self.tally.proxy_error]
        self.candidates.fixed = shared.start_of(shared.round if best.round is None else best.round)
        self.segments.load_state_dict(best.own(), strict=False)

    def state(self) -> tuple[State, dict[str, Any]]:
        """Return everything that a checkpoint of this copy holds; what is shared has its own."""
        tensors = with_prefix("segments", self._plan.shared.without(self.segments.state_dict()))
        tensors |= with_prefix("optimiser", optimiser_tensors(self.optimiser))
        tensors |= with_prefix("best", self.best.own())
        tensors |= with_prefix("released", self.released.state())
        choice, candidates = self.candidates.state()
        tensors |= with_prefix("candidates", choice)
        facts = {"best_dice": self.best.dice, "best_round": self.best.round, "task": self.task.name}
        return tensors, facts | {"candidates": candidates}

    def load_state(self, tensors: State, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned; in the site's turn, what is shared as it was before it.

        What has been released since stays released.
        """
        shared = self._plan.shared
        self.segments.load_state_dict(without_prefix("segments", tensors) | shared.weights())
        load_optimiser_tensors(self.optimiser, without_prefix("optimiser", tensors))
        self.best.restore(without_prefix("best", tensors), state["best_dice"], state["best_round"])
        self.released.add_state(without_prefix("released", tensors))
        candidates = without_prefix("candidates", tensors)
        self.candidates.load_state(candidates, state["candidates"], self._device)
        shared.rewind(self.optimiser)
        self._forget_steps()
