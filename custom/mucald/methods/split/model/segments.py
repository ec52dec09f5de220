"""The server's segments for one site: CRDM-1, the middle network, CRDM-2, and their losses.

MuCALD-SplitFed (ICIP 2026, arXiv 2605.04108), with three departures that docs/method.md gives reasons for:
the exogenous encoder and the SCM read the noised latent, the denoiser learns without the site's noise, and
the causal variables are not cut off from the task's gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mucald import randomness
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.causal.graphs import CausalGraph, causal_task, n_proxies
from mucald.methods.split.config import CrdmConfig, SplitConfig
from mucald.methods.split.model.crdm.causal_losses import kl_causal, kl_exogenous, proxy_loss
from mucald.methods.split.model.crdm.denoiser import ConditionalDenoiser
from mucald.methods.split.model.crdm.exogenous import ExogenousEncoder
from mucald.methods.split.model.crdm.module import CRDM, CRDMOutput
from mucald.methods.split.model.crdm.prior import CausalPosterior, CausalPrior
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.model.crdm.scm import NeuralSCM, PlainEncoder
from mucald.methods.split.model.crdm.supervision import SUPERVISION, Observation, supervised
from mucald.methods.split.model.daca import Discriminator, adversarial_loss
from mucald.methods.split.model.mixture import Components
from mucald.nets import Backbone, backbone_of
from mucald.randomness import Key
from mucald.tasks import Task

CRDMS = (1, 2)
"""CRDM-1 reads what came from the site, CRDM-2 what the middle network makes of it."""


@dataclass(frozen=True)
class ForwardPass:
    """What a forward pass leaves for the losses.

    Args:
        latent: x_t as received (B, L, h, w), a leaf that collects ∂L/∂x_t.
        level: t (B,), int64.
        first, second: outputs of CRDM-1 and CRDM-2; ``second.denoised`` is x̂2, what the site gets.
        middle: x2, output of the middle network (B, L, h, w).
        middle_noised: x2 at level ``t_split2``, or x2 itself where nothing is noised.
        exogenous_noise: the draws of the first encoder, or None at evaluation.
    """

    latent: Tensor
    level: Tensor
    first: CRDMOutput
    middle: Tensor
    middle_noised: Tensor
    second: CRDMOutput
    exogenous_noise: Tensor | None


class ServerSegments(nn.Module):
    """The networks that the server holds for one site.

    Parameters under :meth:`is_shared` names are averaged over sites; the causal model and its prior belong to
    the site's task.

    Args:
        config: the job.
        algorithm: what is done beyond averaging.
        task: the site's task; it brings the causal graph.
    """

    def __init__(self, config: SplitConfig, algorithm: Algorithm, task: Task):
        super().__init__()
        self._config = config
        self.schedule = CosineSchedule(config.release.timesteps)
        backbone = backbone_of(config.network)
        self.middle = _build_middle(config, backbone, algorithm.n_components)
        self.front_end: nn.Module | None = None
        if algorithm.shares_front_end:
            # The site runs and trains its own; this one only keeps what is aggregated.
            with randomness.seeded_initialisation(config.seed, "front_end"):
                self.front_end = backbone.front_end().requires_grad_(False)
        self.crdm1 = _build_crdm(config, task, self.schedule, 1)
        self.crdm2 = _build_crdm(config, task, self.schedule, 2)
        self.prior: CausalPrior | None = None
        self.posterior: CausalPosterior | None = None
        if nodes := n_proxies(config.crdm.encoder, task.name):
            with randomness.seeded_initialisation(config.seed, "prior", task.name):
                self.prior, self.posterior = CausalPrior(nodes), CausalPosterior(nodes)

    @staticmethod
    def is_shared(name: str) -> bool:
        """Return whether the parameter or buffer ``name`` is shared by all sites rather than by a task."""
        return name.startswith(("front_end.", "middle.", "crdm1.encoder.", "crdm1.denoiser.")) or (
            name.startswith(("crdm2.encoder.", "crdm2.denoiser."))
        )

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by module, in the names used for gradient norms and learning rates."""
        groups = {"middle": list(self.middle.parameters())}
        for number, crdm in zip(CRDMS, (self.crdm1, self.crdm2), strict=True):
            for part in ("encoder", "causal", "denoiser"):
                if (module := getattr(crdm, part)) is not None:
                    groups[f"{part}_{number}"] = list(module.parameters())
        if self.prior is not None and self.posterior is not None:
            groups["prior"] = [*self.prior.parameters(), *self.posterior.parameters()]
        return groups

    def forward(self, latent: Tensor, level: Tensor, key: Key, noise_2: Tensor | None = None) -> ForwardPass:
        """Run the server's part of the network.

        Args:
            latent: x_t (B, L, h, w).
            level: t (B,), int64.
            key: names the server's own noise.
            noise_2: instead of a draw at CRDM-2 (B or 1, L, h, w); for inference.

        Returns:
            the pass; M components leave features of M·L channels.
        """
        noise1, noise2 = (self._exogenous_noise(latent, (*key, f"exogenous_{number}")) for number in CRDMS)
        first = self.crdm1(latent, latent, level, noise1)
        middle = self.middle(first.denoised)
        middle_noised, level2 = middle, self._level2(level)
        if self._diffuses:
            drawn = noise_2
            if drawn is None:
                drawn = randomness.normal(tuple(middle.shape), *key, "split_2", device=latent.device)
            middle_noised = self.schedule.noised(middle, level2, drawn)
        second = self.crdm2(middle, middle_noised, level2, noise2)
        return ForwardPass(latent, level, first, middle, middle_noised, second, noise1)

    @torch.no_grad()
    def features(self, latent: Tensor, level: Tensor, key: Key) -> Tensor:
        """Return a training step's x̂2 (B, L, h, w), without a graph or a trace in running statistics.

        Args:
            latent, level, key: as in :meth:`forward`.
        """
        self.train()
        statistics = {name: buffer.clone() for name, buffer in self.named_buffers()}
        run: ForwardPass = functional_call(self, statistics, (latent, level, key))
        return run.second.denoised

    def _exogenous_noise(self, latent: Tensor, key: Key) -> Tensor | None:
        """Return the draws of one encoder's exogenous variables; None at evaluation, which takes the mean."""
        if not self.training or self.prior is None:
            return None
        return randomness.normal((latent.shape[0], self.prior.n_nodes), *key, device=latent.device)

    @property
    def _diffuses(self) -> bool:
        return self._config.release.noised and self._config.crdm.denoiser

    def _level2(self, level: Tensor) -> Tensor:
        return torch.full_like(level, self._config.crdm.t_split2 if self._diffuses else 0)

    def causal_losses(self, run: ForwardPass, proxies: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Return the proxy and KL terms of both CRDMs; empty without a causal part.

        Args:
            run: a forward pass.
            proxies: z-scored, noised (B, n).
            present: which of them are known (B, n), bool.
        """
        if self.prior is None or self.posterior is None:
            return {}
        prior_mean, prior_logvar = self.prior(proxies, present)
        terms = {}
        for number, output in zip(CRDMS, (run.first, run.second), strict=True):
            assert output.z is not None
            assert output.mu is not None
            assert output.logvar is not None
            terms[f"proxy_{number}"] = proxy_loss(output.z, proxies, present)
            terms[f"kl_exogenous_{number}"] = kl_exogenous(output.mu, output.logvar)
            terms[f"kl_causal_{number}"] = kl_causal(
                output.z, self.posterior.logvar, prior_mean, prior_logvar, present
            )
        return terms

    def diffusion_losses(self, run: ForwardPass, key: Key, noise: Tensor | None) -> dict[str, Tensor]:
        """Return the denoisers' own terms; empty where nothing is noised.

        They read detached inputs, so they train the CRDMs and neither the front end nor the middle network.

        Args:
            run: a forward pass.
            key: names the server's own noise.
            noise: the site's ε; None unless the supervision is ``epsilon``.
        """
        if not self._diffuses:
            return {}
        assert self.crdm2.denoiser is not None
        # Stein's estimate needs the divergence of all that depends on x_t: the whole of CRDM-1.
        first = SUPERVISION[self._config.crdm.supervision](
            self.crdm1.estimator(run.exogenous_noise),
            Observation(run.latent.detach(), run.level, noise=noise),
            self.schedule,
            (*key, "supervision"),
        )
        # At CRDM-2 the noise is the server's own, so the target is known.
        z = None if run.second.z is None else run.second.z.detach()
        second = supervised(
            partial(self.crdm2.denoiser, z=z),
            Observation(run.middle_noised.detach(), self._level2(run.level)),
            run.middle,
        )
        return {"diffusion_1": first, "diffusion_2": second}

    def adversarial_losses(
        self, run: ForwardPass, discriminators: Sequence[Discriminator], domain: int
    ) -> dict[str, Tensor]:
        """Return the terms that teach the denoised features to hide their site.

        Args:
            run: a forward pass.
            discriminators: one per CRDM, frozen within a round.
            domain: the site's number.
        """
        outputs = (run.first.denoised, run.second.denoised)
        return {
            f"adversarial_{number}": adversarial_loss(discriminator, output, domain)
            for number, discriminator, output in zip(CRDMS, discriminators, outputs, strict=True)
        }


def _build_middle(config: SplitConfig, backbone: Backbone, components: int) -> nn.Module:
    """Build the middle network, or several with first weights of their own, the first as the plain one."""
    middles = []
    for number in range(components):
        with randomness.seeded_initialisation(config.seed, "middle", *([number] if number else [])):
            middles.append(backbone.middle())
    return Components(middles) if components > 1 else middles[0]


def _build_crdm(config: SplitConfig, task: Task, schedule: CosineSchedule, number: int) -> CRDM:
    crdm, channels, seed = config.crdm, config.network.latent_channels, config.seed
    nodes = n_proxies(crdm.encoder, task.name)
    encoder = causal = denoiser = None
    if nodes:
        with randomness.seeded_initialisation(seed, "encoder", number, nodes):
            encoder = ExogenousEncoder(channels, nodes, crdm.encoder_width)
        with randomness.seeded_initialisation(seed, "causal", number, task.name):
            causal = _build_causal(crdm, causal_task(task.name).graph)
    if crdm.denoiser:
        with randomness.seeded_initialisation(seed, "denoiser", number, nodes):
            denoiser = ConditionalDenoiser(channels, nodes, schedule, width=crdm.denoiser_width)
    return CRDM(encoder, causal, denoiser)


def _build_causal(crdm: CrdmConfig, graph: CausalGraph) -> NeuralSCM | PlainEncoder:
    if crdm.encoder == "scm":
        return NeuralSCM(graph, hidden=crdm.causal_hidden)
    return PlainEncoder(len(graph.nodes), hidden=crdm.causal_hidden)
