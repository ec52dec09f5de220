"""The server's part of the training loss of one site (MuCALD-SplitFed, ICIP 2026, training objective)."""

from collections.abc import Sequence

from torch import Tensor

from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.daca import Discriminator
from mucald.methods.split.model.segments import CRDMS, ForwardPass, ServerSegments
from mucald.randomness import Key

_CAUSAL = frozenset({"proxy", "kl_exogenous", "kl_causal"})
_SUFFIXES = tuple(f"_{number}" for number in CRDMS)


def unnumbered(name: str) -> str:
    """Return the name of a term or module without the number of its CRDM: ``proxy`` for ``proxy_1``."""
    return name[: -len(suffix)] if (suffix := next(filter(name.endswith, _SUFFIXES), "")) else name


class Objective:
    """Weighs and computes the loss terms of one site.

    A term of weight 0 is neither computed nor named, so what a record names has acted.

    Args:
        config: the job.
        domain: the site's number for the discriminators.
    """

    def __init__(self, config: SplitConfig, domain: int):
        self._config, self._domain = config, domain

    def weights(self, round_number: int) -> dict[str, float]:
        """Return the weights of ``round_number`` that are not 0, by term."""
        losses = self._config.losses
        progress = self._config.progress(round_number)
        weights = {
            "proxy": losses.proxy.at(progress),
            "kl_exogenous": losses.kl_exogenous.at(progress),
            "kl_causal": losses.kl_causal.at(progress),
            "diffusion": losses.diffusion.at(progress),
            "adversarial": losses.adversarial.at(progress),
        }
        return {name: weight for name, weight in weights.items() if weight}

    def terms(
        self,
        segments: ServerSegments,
        run: ForwardPass,
        weights: dict[str, float],
        key: Key,
        proxies: tuple[Tensor, Tensor] | None,
        noise: Tensor | None,
        discriminators: Sequence[Discriminator],
    ) -> dict[str, tuple[float, Tensor]]:
        """Return weight and value of every term, ``<term>_<CRDM>``.

        Args:
            segments: the site's networks at the server.
            run: a forward pass through them.
            weights: of this round.
            key: names the server's own noise.
            proxies: noised proxies (B, n) and their mask (B, n), bool, or None without a causal part.
            noise: the site's ε, under ``epsilon`` supervision alone.
            discriminators: one per CRDM; none if DACA is off.
        """
        values: dict[str, Tensor] = {}
        if proxies is not None and _CAUSAL & weights.keys():
            values |= segments.causal_losses(run, *proxies)
        if "diffusion" in weights:
            values |= segments.diffusion_losses(run, key, noise)
        if "adversarial" in weights and discriminators:
            values |= segments.adversarial_losses(run, discriminators, self._domain)
        return {
            name: (weights[unnumbered(name)], value)
            for name, value in values.items()
            if unnumbered(name) in weights
        }
