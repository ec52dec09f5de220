"""The losses that tie the causal variables to the proxies and to their priors (arXiv 2605.04108).

Each is a sum over nodes of a mean over samples. A sample whose proxy is missing does not count; a node that
is missing in the whole batch contributes 0.
"""

import torch
from torch import Tensor


def _sum_of_node_means(values: Tensor, present: Tensor) -> Tensor:
    counts = present.sum(dim=0).clamp(min=1)
    return (torch.where(present, values, 0.0).sum(dim=0) / counts).sum()


def proxy_loss(z: Tensor, proxies: Tensor, present: Tensor) -> Tensor:
    """Return Σ_nodes mean((z − y)²) over the samples whose proxy is present.

    Args:
        z: causal variables (B, n_nodes).
        proxies: z-scored proxies y (B, n_nodes); anything, NaN included, where not present.
        present: bool (B, n_nodes).
    """
    # Masked before the square as well: the gradient of a hidden NaN would be NaN, not 0.
    return _sum_of_node_means((z - torch.where(present, proxies, 0.0)).square(), present)


def kl_exogenous(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return Σ_nodes mean KL(N(mu, e^logvar) ‖ N(0, 1)); both arguments (B, n_nodes)."""
    return 0.5 * (logvar.exp() + mu.square() - 1 - logvar).mean(dim=0).sum()


def kl_causal(
    z: Tensor, posterior_logvar: Tensor, prior_mean: Tensor, prior_logvar: Tensor, present: Tensor
) -> Tensor:
    """Return Σ_nodes mean KL(N(z, e^posterior_logvar) ‖ N(prior_mean, e^prior_logvar)).

    Args:
        z: causal variables (B, n_nodes).
        posterior_logvar: one log-variance per node (n_nodes,).
        prior_mean: mean of the prior given the proxies (B, n_nodes).
        prior_logvar: its log-variance (B, n_nodes).
        present: bool (B, n_nodes), whether a sample has the node's proxy.
    """
    log_ratio = posterior_logvar - prior_logvar
    distance = (z - prior_mean).square() * torch.exp(-prior_logvar)
    return _sum_of_node_means(0.5 * (log_ratio.exp() + distance - 1 - log_ratio), present)
