"""Gaussian differential privacy: what repeated Gaussian releases guarantee (Dong, Roth & Su, 2022)."""

import math
from dataclasses import asdict, dataclass
from typing import Any

DELTA = 1e-5
VACUOUS_EPSILON = 10.0
"""From here on a guarantee is called empty: odds may change by a factor of e^10, about 22 000."""


def epsilon(mu: float, delta: float = DELTA) -> float:
    """Return the ε for which a μ-Gaussian differentially private mechanism is (ε, δ) private, exactly.

    Solves δ = Φ(a) − e^ε Φ(a − μ) with a = μ/2 − ε/μ (Balle & Wang, "Improving the Gaussian Mechanism", 2018,
    theorem 8). Since e^ε φ(a − μ) = φ(a), the second term is e^(−a²/2) erfcx((μ − a)/√2) / 2, in which
    nothing overflows however large μ is, and a stays of the order of Φ⁻¹(δ).

    Args:
        mu: μ ≥ 0.
        delta: δ in (0, 1).
    """
    if mu == 0 or _delta(mu / 2, mu) <= delta:
        return 0.0
    # Imported where it is used: it takes half a second, and a site that judges a job needs no ε.
    from scipy.optimize import brentq

    lowest = -40.0  # Φ(−40) is 0 in float64
    a = brentq(lambda a: _delta(a, mu) - delta, lowest, mu / 2, xtol=1e-13, rtol=1e-14)
    return mu * (mu / 2 - a)


def mu_of(epsilon_wanted: float, delta: float = DELTA) -> float:
    """Return the largest μ whose :func:`epsilon` at ``delta`` is at most ``epsilon_wanted`` (above 0)."""
    from scipy.optimize import brentq

    low, high = 0.0, 1.0
    while epsilon(high, delta) < epsilon_wanted:
        low, high = high, 2 * high
    found = float(brentq(lambda mu: epsilon(mu, delta) - epsilon_wanted, low, high, xtol=1e-14, rtol=1e-13))
    # The root may lie an ulp on the wrong side.
    return found * (1 - 1e-12)


def _delta(a: float, mu: float) -> float:
    from scipy.special import erfcx, ndtr

    return float(ndtr(a) - math.exp(-(a**2) / 2) * erfcx((mu - a) / math.sqrt(2)) / 2)


@dataclass(frozen=True)
class Bound:
    """What repeated Gaussian releases of one quantity guarantee; None where nothing does.

    Args:
        releases: how often a sample takes part.
        error_floor: least mean squared error per number of any unbiased estimate from all releases (Cramér &
            Rao), in units of the standardised latent's variance; 0 without noise, None where scores are not
            of a known scale.
        mu: μ of Gaussian differential privacy when all images of a patient are replaced.
    """

    releases: int
    error_floor: float | None = None
    mu: float | None = None

    @property
    def epsilon(self) -> float | None:
        """ε at δ = 1e-5 for ``mu``."""
        return None if self.mu is None else epsilon(self.mu)

    def to_dict(self) -> dict[str, Any]:
        """Return the bound as JSON, with its ε."""
        return asdict(self) | {"epsilon": self.epsilon}

    @property
    def meaning(self) -> str:
        """What ``mu`` means, in a sentence."""
        if self.mu is None:
            return "no noise bounds what it tells."
        from scipy.special import ndtr

        value = f"ε = {epsilon(self.mu):.3g} at δ = {DELTA:g}"
        if epsilon(self.mu) >= VACUOUS_EPSILON:
            return f"{value} guarantees nothing in the worst case; what attackers achieve has to be measured."
        odds = 100 * float(ndtr(self.mu / 2))
        return (
            f"{value}; who has to tell which of two images it was is right at most {odds:.0f} times in 100."
        )
