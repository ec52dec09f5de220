"""How much noise a schedule needs: full-batch Gaussian steps, accounted exactly.

Every step releases the sum of all samples' clipped gradients with Gaussian noise of standard deviation σ C.
One image more or less (add/remove adjacency) moves that sum by at most C, so a step is 1/σ-Gaussian
differentially private, and T steps, each of which may depend on those before, are √T/σ-Gaussian
differentially private (Dong, Roth & Su, "Gaussian differential privacy", 2022, corollary 2). Nothing
is sampled, so nothing has to be assumed of a sampler; at the noise of a small ε sampling would buy nothing.
"""

import math
from dataclasses import dataclass

from mucald.privacy.gaussian import mu_of


@dataclass(frozen=True)
class Guarantee:
    """(ε, δ)-differential privacy of the images a site trains on, one image more or less.

    Args:
        epsilon: ε > 0.
        delta: δ in (0, 1).

    Raises:
        ValueError: either lies outside its range.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be positive, not {self.epsilon}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie between 0 and 1, not {self.delta}")

    @property
    def mu(self) -> float:
        """The largest μ whose Gaussian differential privacy implies the guarantee."""
        return mu_of(self.epsilon, self.delta)

    def noise_multiplier(self, releases: int) -> float:
        """Return σ for that many releases, in units of the sensitivity of one."""
        return math.sqrt(releases) / self.mu
