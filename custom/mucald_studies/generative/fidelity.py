"""How near synthetic samples come to real ones: transport, kernels, manifolds and a classifier."""

import math

import torch
from torch import Tensor


def sinkhorn(x: Tensor, y: Tensor, blur: float = 0.05, rounds: int = 200) -> float:
    """Return the root of the Sinkhorn divergence with squared distances (Feydy et al., AISTATS 2019).

    Entropy is weighed ``blur``² times the mean squared distance; at 0 it would be the 2-Wasserstein distance.
    It is computed in logarithms, and the entropy's own share is taken out, so that a set has distance 0 to
    itself.

    Args:
        x: samples (N, D).
        y: samples (M, D).
        blur: root of the weight of the entropy, in units of the root mean squared distance.
        rounds: of the iteration; the weight falls geometrically over the first half of them.
    """
    x, y = x.double(), y.double()
    scale = float(torch.cdist(x, y).square().mean())
    between, within = _entropic(x, y, blur, rounds, scale), 0.0
    for one in (x, y):
        within += _entropic(one, one, blur, rounds, scale) / 2
    return math.sqrt(max(between - within, 0.0))


def _entropic(x: Tensor, y: Tensor, blur: float, rounds: int, scale: float) -> float:
    costs = torch.cdist(x, y).square()
    f, g = torch.zeros(len(x), dtype=x.dtype), torch.zeros(len(y), dtype=x.dtype)
    log_a, log_b = -math.log(len(x)), -math.log(len(y))
    for number in range(rounds):
        done = min(2 * number / rounds, 1.0)
        weight = scale * blur ** (2 * done)
        new_f = -weight * torch.logsumexp((g - costs) / weight + log_b, dim=1)
        new_g = -weight * torch.logsumexp((f[:, None] - costs) / weight + log_a, dim=0)
        f, g = (f + new_f) / 2, (g + new_g) / 2
    return float(f.mean() + g.mean())


def mmd(x: Tensor, y: Tensor) -> float:
    """Return the squared maximum mean discrepancy, unbiased (Gretton et al., JMLR 2012).

    The kernel is Gaussian; its width is the median distance of all samples.
    """
    both = torch.cat((x, y)).double()
    squares = torch.cdist(both, both).square()
    off = ~torch.eye(len(both), dtype=torch.bool)
    kernel = torch.exp(-squares / squares[off].median())
    n, m = len(x), len(y)
    kernel.fill_diagonal_(0)
    own = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return float(own - 2 * kernel[:n, n:].mean())


def precision_recall(real: Tensor, synthetic: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Return which shares of synthetic and of real samples lie on the other's manifold.

    A manifold is the union of balls about its samples that reach to the k-th neighbour (Kynkäänniemi et al.,
    NeurIPS 2019).
    """

    def covered(points: Tensor, of: Tensor) -> float:
        radii = torch.cdist(of, of).kthvalue(neighbours + 1, dim=1).values
        return float((torch.cdist(points, of) <= radii).any(dim=1).double().mean())

    return covered(synthetic, real), covered(real, synthetic)


def two_sample_test(real: Tensor, synthetic: Tensor, seed: int = 0) -> float:
    """Return how often a classifier tells real from synthetic samples that it has not seen; 0.5 is chance.

    The classifier is a network of one hidden layer (C2ST; Lopez-Paz & Oquab, ICLR 2017), trained on one half.
    """
    count = min(len(real), len(synthetic))
    draws = torch.Generator().manual_seed(seed)
    x = torch.cat([s[torch.randperm(len(s), generator=draws)[:count]] for s in (real, synthetic)])
    y = torch.arange(2 * count) // count
    order = torch.randperm(2 * count, generator=draws)
    train, test = order[:count], order[count:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
        )
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x[train]), y[train]).backward()
        optimiser.step()
    return float((network(x[test]).argmax(dim=1) == y[test]).double().mean())
