"""What the server notes of one site within a round."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mucald.split.statistics import Averages


@dataclass
class ProxyError:
    """Running sum of a validation's squared proxy errors at split 1."""

    total: float = 0.0
    count: int = 0

    def add(self, squares: Tensor) -> bool:
        """Add squared errors (any shape); return False, and add nothing, if one is not finite."""
        if not bool(squares.isfinite().all()):
            return False
        self.total += float(squares.sum())
        self.count += squares.numel()
        return True

    def mean(self, noise_variance: float) -> float | None:
        """Return the mean squared error, less what the noise on the targets adds; None without targets."""
        return max(self.total / self.count - noise_variance, 0.0) if self.count else None


@dataclass
class RoundRecord:
    """What the server notes of one site within a round; ``choice`` as :meth:`.Choice.describe` returns it."""

    losses: Averages = field(default_factory=Averages)
    gradients: Averages = field(default_factory=Averages)
    proxy_error: ProxyError = field(default_factory=ProxyError)
    choice: dict[str, Any] | None = None
    seconds: float = 0.0
