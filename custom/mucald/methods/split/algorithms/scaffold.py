"""Control variates against the drift of sites with different data."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mucald.aggregation.base import State
from mucald.methods.split.algorithms.base import Algorithm

STEPS = "steps"


@dataclass(frozen=True)
class Scaffold(Algorithm):
    """SCAFFOLD (Karimireddy et al., ICML 2020) on the middle network's parameters.

    Every step adds c - c_i to site i's gradient. After a round, with S the sites that finished out of N::

        c_i⁺ = mean of site i's own mini-batch gradients over the round's K steps, without the correction
        c⁺   = c + |S|/N · mean over S of (c_i⁺ - c_i)

    The paper's option II, c_i - c + (x - y_i)/(K η), equals this mean when the site's solver is plain SGD
    with step size η. Unlike it, the mean is still a gradient under AdamW and clipping, which all jobs use so
    that they are compared under one protocol; the sum is corrected first, then clipped.

    Variates begin at zero, hence the first round is SplitFed's. A site that fails keeps its variate.
    """

    def adjust_gradients(
        self, site: str, middle: Mapping[str, nn.Parameter], state: State, scratch: State
    ) -> None:
        """Note the gradients, then correct them."""
        scratch[STEPS] = scratch.get(STEPS, torch.zeros(())) + 1
        for name, parameter in middle.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            scratch[name] = scratch[name] + gradient if name in scratch else gradient.clone()
            if _server(name) in state:
                gradient.add_(state[_server(name)])
            if _own(site, name) in state:
                gradient.sub_(state[_own(site, name)])

    def end_round(self, middles: Mapping[str, State], scratches: Mapping[str, State], state: State) -> None:
        """Renew the variates of the sites that finished, and the server's."""
        for site in sorted(scratches):
            notes = dict(scratches[site])
            steps = notes.pop(STEPS)
            for name, total in notes.items():
                new = total / steps
                change = new - state.get(_own(site, name), 0)
                state[_own(site, name)] = new
                state[_server(name)] = state.get(_server(name), 0) + change / len(middles)


def _server(name: str) -> str:
    return f"server.{name}"


def _own(site: str, name: str) -> str:
    return f"site.{site}.{name}"
