"""Noise of a site's own, and the ledger that is asked before any of it is drawn."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.disclosures import steps_of
from mucald.privacy.dp.ledger import Ledger, Plan
from mucald.privacy.dp.steps import PrivateStep
from mucald.randomness import Key

LARGEST_LOSS = 4.0
"""What a sample's loss counts as at most where it is shown with noise; that of chance is about 2."""


def private_step(config: GenerativeConfig, steps: int | None = None) -> PrivateStep:
    """Return bounds and noise of every step of a job with noise.

    Args:
        config: the job.
        steps: that the noise is for; those of the job by default.
    """
    guarantee = config.privacy.guarantee
    assert guarantee is not None
    multiplier = guarantee.noise_multiplier(steps or steps_of(config))
    return PrivateStep(config.privacy.clip, multiplier, LARGEST_LOSS)


@dataclass(frozen=True)
class Noise(ABC):
    """With what noise a site trains.

    Args:
        step: bounds and noise of every step.
        secret: what the noise is drawn from; the job's seed is known to the server.
        digest: of the job's configuration.
        phantoms: whether the images are nobody's. Their noise then depends on no weights, so that machines
            whose sums differ in their last digits draw the same.
    """

    step: PrivateStep
    secret: str
    digest: str
    phantoms: bool

    def key(self, site: str, round_number: int, inputs: str) -> Key:
        """Return what names the noise of a round.

        Equal inputs give equal noise, hence equal numbers, which tell nothing twice; any other input, such as
        other weights from the server, gives noise that nobody has seen.

        Args:
            site: name of the site.
            round_number: of the round.
            inputs: hash of all that the round's steps are computed from.
        """
        of_inputs = () if self.phantoms else (self.digest, inputs)
        return (self.secret, site, round_number, "step noise", *of_inputs)

    @abstractmethod
    def spend(self, key: Key, count: int) -> None:
        """Account for a round's releases, before any noise is drawn."""


@dataclass(frozen=True)
class Spending(Noise):
    """Noise of a run, whose releases the site's ledger has.

    Args:
        ledger: of the site.
        plan: of the run, which the ledger has entered.
    """

    ledger: Ledger
    plan: Plan

    def spend(self, key: Key, count: int) -> None:
        """Enter a round's releases.

        Raises:
            PolicyError: the run's budget is spent.
            DataError: the ledger is damaged.
        """
        # A hash, for the ledger is no place for the secret.
        self.ledger.spend(self.plan, hashlib.sha256(repr(key).encode()).hexdigest()[:32], count)
