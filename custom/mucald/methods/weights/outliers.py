"""Updates that are too large to be of the same training as the others'."""

import math
from collections.abc import Mapping
from statistics import median

from mucald.federation.method import State
from mucald.methods.weights.algorithms.server_optimiser import is_statistic
from mucald.state.averages import total_norm

LARGEST = 100.0
"""How many times the others' median a site's update may be: many more steps make some ten times of it."""


def too_large(changes: Mapping[str, State]) -> dict[str, str]:
    """Return the sites whose change is more than :data:`LARGEST` times the median of the others', and why.

    What is compared is the root mean square of a site's changes, for sites may share unlike parts or keep
    some back; once that of weights, and once that of running statistics, which are of another size. Where
    the median is 0 there is nothing to compare with.

    Args:
        changes: by site.
    """
    reasons = {}
    for what, of_statistics in (("weights", False), ("running statistics", True)):
        sizes = {site: _size(change, of_statistics) for site, change in changes.items()}
        for site, size in sizes.items():
            others = [other for name, other in sizes.items() if name != site]
            usual = median(others) if others else 0.0
            if usual > 0 and size > LARGEST * usual:
                reasons[site] = (
                    f"its {what} have changed {size / usual:.0f} times as much as the others' (the most is "
                    f"{LARGEST:.0f}); look for images unlike the others', and for its losses"
                )
    return reasons


def _size(change: State, of_statistics: bool) -> float:
    """Return the root mean square of a change; 0 where nothing of it came."""
    tensors = [t.double() for n, t in change.items() if is_statistic(n) is of_statistics]
    return total_norm(tensors) / math.sqrt(max(sum(tensor.numel() for tensor in tensors), 1))
