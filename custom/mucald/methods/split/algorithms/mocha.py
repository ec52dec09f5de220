"""Personal middle networks, tied by a learnt relation between the sites' tasks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald.aggregation.base import State
from mucald.methods.split.algorithms.base import Algorithm

RELATION = "relation"


@dataclass(frozen=True)
class Mocha(Algorithm):
    """MOCHA-style multi-task learning (Smith et al., NeurIPS 2017), for use with the rule ``local``.

    With W = [w_1 … w_N], a column per site with its middle network's parameters, sites learn on::

        own losses + λ/2 · tr(W Ω⁻¹ Wᵀ),   so that site i's gradient gains  λ Σ_j (Ω⁻¹)_ij w_j

    in which w_i is the present network and the others are those of the round's start. After a round the
    relation is Ω = (WᵀW + ρI)^½ / tr (WᵀW + ρI)^½, the minimum over all Ω of trace 1. MOCHA's own solver,
    dual and for convex losses, does not apply to deep networks.

    The first round has no such term: all networks begin alike, and the relation of equal columns is singular.

    Args:
        regularisation: λ, at least 0. It acts on every weight, so it is compared with the loss's gradient per
            weight. Towards 0 it pulls with λ; apart from each other, where networks of one origin hardly
            differ, sites are held λ/σ strongly, σ being Ω's eigenvalue for that difference.
        ridge: ρ in units of the networks' mean squared norm, positive; bounds 1/σ by about √(N/ridge).
    """

    regularisation: float
    ridge: float

    def __post_init__(self) -> None:
        if self.regularisation < 0:
            raise ValueError(f"regularisation must not be negative, not {self.regularisation}")
        if self.ridge <= 0:
            raise ValueError(f"ridge must be positive, not {self.ridge}")

    def adjust_gradients(
        self, site: str, middle: Mapping[str, nn.Parameter], state: State, scratch: State
    ) -> None:
        """Add the regulariser's gradient."""
        if RELATION not in state:
            return
        own = self.regularisation * state[f"own.{site}"].item()
        for name, parameter in middle.items():
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=own)
                parameter.grad.add_(state[f"others.{site}.{name}"], alpha=self.regularisation)

    def end_round(self, middles: Mapping[str, State], scratches: Mapping[str, State], state: State) -> None:
        """Renew the relation, and for every site what it has of the others."""
        sites, names = sorted(middles), sorted(next(iter(middles.values())))
        columns = torch.stack([torch.cat([middles[s][n].flatten().double() for n in names]) for s in sites])
        relation = self._relation(columns @ columns.T)
        inverse = torch.linalg.inv(relation)
        state[RELATION] = relation
        for number, site in enumerate(sites):
            others = inverse[number].clone()
            state[f"own.{site}"] = others[number].clone()
            others[number] = 0
            for name in names:
                weights = torch.stack([middles[other][name].double() for other in sites])
                total = torch.tensordot(others, weights, dims=1)
                state[f"others.{site}.{name}"] = total.to(middles[site][name].dtype)

    def _relation(self, gram: Tensor) -> Tensor:
        """Return Ω (N, N) for WᵀW (N, N), float64."""
        values, vectors = torch.linalg.eigh(gram)
        # Rounding may leave the smallest eigenvalues of near-equal networks just below 0.
        roots = (values.clamp(min=0) + self.ridge * gram.trace() / len(gram)).sqrt()
        return (vectors * (roots / roots.sum())) @ vectors.T
