"""What a mean change lacks to serve the site that it serves worst."""

import math
from collections.abc import Collection, Sequence

from mucald.aggregation.conflict_averse import VANISHING, worst_weights
from mucald.aggregation.products import cosines, products
from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Update


def conflict_averse(
    mean: State, updates: Sequence[Update], names: Collection[str], c: float, rescale: int
) -> State:
    """Return the update d of CAGrad (Liu et al., NeurIPS 2021) for some tensors, over all sites.

    With g_0 the mean change and u_i = g_i / |g_i| a site's direction::

        d = (g_0 + c |g_0| u_w / |u_w|) / s,  w = argmin over the simplex of u_w·g_0 + c |g_0| |u_w|

    which up to s maximises the least u_i·d within a distance of c |g_0| from g_0. Departure: CAGrad has g_i
    for u_i. With changes of a whole round a site that moves little, for it has few images or hardly a
    gradient left, then has the least product whatever the direction, and takes all of the weight. A site that
    has not moved has no direction and is passed over.

    Args:
        mean: the mean change g_0 of ``names``, in which the sites' weights are.
        updates: of the sites.
        names: of the tensors that go together.
        c: at least 0, below 1; with 0 d is g_0, and s is 1.
        rescale: s is 1 (0), 1 + c² (1) or 1 + c (2).
    """
    mean = {name: mean[name] for name in names}
    changes = [{name: u.change[name] for name in names if name in u.change} for u in updates]
    gram = products([*changes, mean])
    norms = gram.diagonal().sqrt()
    moving = [i for i in range(len(updates)) if norms[i] > 0]
    scale = (1.0, 1 + c**2, 1 + c)[rescale]
    if c == 0 or not moving or norms[-1] == 0:
        return {name: tensor / scale for name, tensor in mean.items()}
    angles = cosines(gram)
    own = angles[moving][:, moving].numpy()
    weights = worst_weights(own, angles[moving, -1].numpy(), c)
    length = math.sqrt(max(float(weights @ own @ weights), 0.0))
    if length <= VANISHING:
        return mean
    lean = {i: c * float(norms[-1] * w / (norms[i] * length)) for i, w in zip(moving, weights, strict=True)}
    update = {}
    for name, tensor in mean.items():
        total = tensor.double()
        for i, factor in lean.items():
            if name in changes[i]:
                total.add_(changes[i][name].to(total.device), alpha=factor)
        update[name] = (total / scale).to(tensor.dtype)
    return update
