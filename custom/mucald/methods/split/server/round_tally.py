"""What the server adds up of one site within a round."""

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mucald.state.averages import Averages


@dataclass
class ProxyError:
    """Running sum of a validation's squared proxy errors at CRDM-1."""

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
class RoundTally:
    """What the server adds up of one site within a round.

    Args:
        losses, gradients, proxy_error: means over the round.
        choice: as :meth:`.StateChoice.describe` returns it.
        seconds: that the server worked for the site.
        first_step: when the site's first training step came, on the monotonic clock.
    """

    losses: Averages = field(default_factory=Averages)
    gradients: Averages = field(default_factory=Averages)
    proxy_error: ProxyError = field(default_factory=ProxyError)
    choice: dict[str, Any] | None = None
    seconds: float = 0.0
    first_step: float | None = None

    def begin_step(self, training: bool) -> None:
        """Note that a step begins."""
        if training and self.first_step is None:
            self.first_step = time.monotonic()
