"""Averaging of repeated releases: fresh noise in every epoch is noise that averages out.

The server knows the job's seed, hence the order of the samples, hence which latents show the same one. For a
front end at rest k releases have k times the signal-to-noise ratio of one. All three attackers draw alike, so
where an image is released once they are one and the same.
"""

from typing import ClassVar

from mucald_studies.attacks.decoder import picture, train_on_auxiliary
from mucald_studies.attacks.harness.base import Attack, Knowledge, Pictures
from mucald_studies.attacks.harness.view import View


class _Averaging(Attack):
    """A decoder for averages, by whoever knows the front end as it is at the end.

    Class attributes:
        share: over which last part of the epochs; 0 for the last one alone.
    """

    knowledge = frozenset({Knowledge.FRONT_END, Knowledge.AUXILIARY})
    share: ClassVar[float]

    @property
    def draws(self) -> str:
        """The family's name."""
        return "averaging"

    def run(self, view: View) -> Pictures:
        """Reconstruct the training images."""
        sent = view.released("train")
        epochs, rows = sent.epochs.unique(), sent.rows.unique()
        count = max(1, round(self.share * len(epochs)))
        network, curve = train_on_auxiliary(view, lambda x, key: view.noised(x, *key, releases=count))
        averages = sent.within(epochs[-count:]).averaged(rows)
        return Pictures(picture(network, averages), "train", rows, curve)


class LastEpoch(_Averaging):
    """The last epoch's release alone, to compare with."""

    name = "averaging.last"
    share = 0.0


class SecondHalf(_Averaging):
    """The second half of all epochs, in which the front end moves less."""

    name = "averaging.half"
    share = 0.5


class AllEpochs(_Averaging):
    """All releases of the run."""

    name = "averaging.all"
    share = 1.0
