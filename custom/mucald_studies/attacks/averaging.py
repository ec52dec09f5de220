"""Averaging of repeated releases: fresh noise in every epoch is noise that averages out.

The server knows the job's seed, hence the order of the samples, hence which latents show the same one. For a
front end at rest k releases have k times the signal-to-noise ratio of one. All three attackers draw alike, so
where an image is released once they are one and the same.
"""

from mucald_studies.attacks.decoder import picture, train_on_auxiliary
from mucald_studies.attacks.harness.base import Attack, Knowledge, Pictures, attack
from mucald_studies.attacks.harness.view import View


def _averaging(name: str, share: float) -> Attack:
    """Return a decoder for averages over a last part of the epochs, by who knows the front end at the end."""

    @attack(name, Knowledge.FRONT_END, Knowledge.AUXILIARY, draws="averaging")
    def averaging(view: View) -> Pictures:
        sent = view.released("train")
        epochs, rows = sent.epochs.unique(), sent.rows.unique()
        count = max(1, round(share * len(epochs)))
        network, curve = train_on_auxiliary(view, lambda x, key: view.noised(x, *key, releases=count))
        averages = sent.within(epochs[-count:]).averaged(rows)
        return Pictures(picture(network, averages), "train", rows, curve)

    return averaging


last_epoch = _averaging("averaging.last", 0.0)
"""The last epoch's release alone, to compare with."""
second_half = _averaging("averaging.half", 0.5)
"""The second half of all epochs, in which the front end moves less."""
all_epochs = _averaging("averaging.all", 1.0)
