"""The prior of the causal variables given a sample's proxies, and their posterior spread."""

import torch
from torch import Tensor, nn

LOGVAR_LIMIT = 10.0
POSTERIOR_LOGVAR_START = -2.0


class CausalPrior(nn.Module):
    """Predicts mean and log-variance of every causal variable from the proxies (arXiv 2605.04108).

    Args:
        n_nodes: nodes of the causal graph, which are as many as proxies.
        hidden: width of the two hidden layers.
    """

    def __init__(self, n_nodes: int, hidden: int = 16):
        super().__init__()
        self.n_nodes = n_nodes
        self.trunk = nn.Sequential(
            nn.Linear(n_nodes, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.heads = nn.Linear(hidden, 2 * n_nodes)

    def forward(self, proxies: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, n_nodes).

        Args:
            proxies: z-scored proxies (B, n_nodes); entries that are not present are read as 0, the mean.
            present: bool (B, n_nodes), false where a proxy is missing.
        """
        known = torch.where(present, proxies, 0.0)
        mean, logvar = self.heads(self.trunk(known)).chunk(2, dim=1)
        return mean, logvar.clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT)


class CausalPosterior(nn.Module):
    """The spread of the causal variables around the SCM's output: one free log-variance per node.

    Args:
        n_nodes: nodes of the causal graph.
    """

    def __init__(self, n_nodes: int):
        super().__init__()
        self.logvar = nn.Parameter(torch.full((n_nodes,), POSTERIOR_LOGVAR_START))
