"""What a server can put together from its own messages: which tensor belongs to which sample of a site.

Shuffling follows from the job's seed, which the server knows, so it can follow a training sample from epoch
to epoch. Under ``release.mode`` = ``once`` it is told the samples' numbers.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mucald.data.augmentation import orientations
from mucald.data.order import epoch_batches
from mucald.errors import AttackError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.wire.messages import Field, Phase
from mucald.tasks import get_task
from mucald_studies.recording import Exchange, Recording

TRAIN_FORWARD = (Phase.TRAIN_FORWARD, Phase.TRAIN_FORWARD_WITH_NOISE, Phase.TRAIN_FORWARD_RELEASED)
TRAIN_BACKWARD = (Phase.TRAIN_BACKWARD, Phase.TRAIN_BACKWARD_RELEASED)
_RELEASED_FIELDS = (Field.LATENT, Field.LEVEL, Field.PROXIES, Field.PROXY_MASK)


@dataclass(frozen=True)
class Sent:
    """One tensor per sample and epoch.

    Args:
        values: (N, …).
        rows: number of each sample in its split (N,).
        epochs: in which epoch of the run it crossed (N,), from 0; 0 for a test.
    """

    values: Tensor
    rows: Tensor
    epochs: Tensor

    def of(self, rows: Tensor) -> "Sent":
        """Return what belongs to the samples ``rows``."""
        return self._where(torch.isin(self.rows, rows))

    def paired(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what belongs to the sorted samples ``rows``, and the place of each value's sample in them.

        Those of one sample stand together, so that the last of them, held out, are of samples never learnt.
        """
        own = self.of(rows)
        places, order = torch.searchsorted(rows, own.rows).sort(stable=True)
        return own.values[order], places

    def averaged(self, rows: Tensor) -> Tensor:
        """Return the mean over epochs of each of the samples ``rows``, in that order."""
        return torch.stack([self.values[self.rows == row].mean(dim=0) for row in rows])

    def by_epoch(self) -> list[Tensor]:
        """Return what crossed in each epoch, in the order of the samples."""
        parts = [self.within(epoch) for epoch in self.epochs.unique()]
        return [part.values[torch.argsort(part.rows)] for part in parts]

    def within(self, epochs: Tensor) -> "Sent":
        """Return what crossed in ``epochs``."""
        return self._where(torch.isin(self.epochs, epochs))

    def _where(self, chosen: Tensor) -> "Sent":
        return Sent(self.values[chosen], self.rows[chosen], self.epochs[chosen])


def training(recording: Recording, site: str, field: Field, last_rounds: int | None = None) -> Sent:
    """Return what crossed in training steps as ``field``, with the samples that it belongs to.

    In the last so many rounds, or in all; what is released once counts for every round.

    Raises:
        AttackError: no such tensor crossed.
    """
    if recording.config.release.mode == "once" and field in _RELEASED_FIELDS:
        return _in_order(recording, site, Phase.RELEASE, field)
    phases = TRAIN_BACKWARD if field in (Field.FEATURE_GRADIENT, Field.LATENT_GRADIENT) else TRAIN_FORWARD
    steps: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for exchange in recording.exchanges(site, *phases):
        number, step = exchange.request.round, exchange.request.step
        steps[number][step] = _upright(recording.config, site, number, step, _tensor(exchange, field))
    if not steps:
        raise AttackError(f"the recording holds no training step of site '{site}'")
    by_round = {}
    for number in sorted(steps)[-(last_rounds or 0) :]:
        by_round[number] = torch.cat([steps[number][step] for step in sorted(steps[number])])
    return assigned(recording.config, site, by_round)


def _upright(config: SplitConfig, site: str, round_number: int, step: int, values: Tensor) -> Tensor:
    """Turn what crossed of a step (N, L, h, w) back to how the samples lie that were released once.

    The job's seed tells how they were turned, and what is averaged over epochs has to lie alike.
    """
    if config.release.mode != "once" or not config.training.augmentation:
        return values
    task = get_task(config.site(site).task)
    return orientations(config, site, task, round_number, step, len(values)).undone(values)


def assigned(config: SplitConfig, site: str, by_round: Mapping[int, Tensor]) -> Sent:
    """Return tensors (N, …) of all training steps of some rounds, with the samples that they belong to."""
    rows, epochs = [], []
    for number, values in by_round.items():
        samples, epoch = sample_order(config, site, number, len(values))
        rows.append(samples)
        epochs.append(epoch)
    return Sent(torch.cat(list(by_round.values())), torch.cat(rows), torch.cat(epochs))


def _in_order(recording: Recording, site: str, phase: Phase, field: Field) -> Sent:
    """Return what crossed a single time for every sample of a split, in its order.

    Raises:
        AttackError: nothing crossed.
    """
    tensors = [_tensor(exchange, field) for exchange in recording.exchanges(site, phase)]
    if not tensors:
        raise AttackError(f"the recording holds no {phase.name} of site '{site}'; let the run end")
    values = torch.cat(tensors)
    return Sent(values, torch.arange(len(values)), torch.zeros(len(values), dtype=torch.int64))


def first_round(recording: Recording, site: str, field: Field) -> Tensor:
    """Return what crossed with the first round's training releases, in their order (N, …).

    Raises:
        AttackError: no such tensor crossed, or the recording begins later.
    """
    once = recording.config.release.mode == "once"
    phases = (Phase.RELEASE,) if once else TRAIN_FORWARD
    found = [_tensor(exchange, field) for exchange in recording.exchanges(site, *phases, rounds=(0,))]
    if not found:
        raise AttackError("the recording does not begin with the first round")
    return torch.cat(found)


def sample_order(config: SplitConfig, site: str, round_number: int, count: int) -> tuple[Tensor, Tensor]:
    """Return which sample (count,) each latent of a round's training shows, and in which epoch (count,).

    There are ``count`` latents in the round, over all its epochs.
    """
    epochs = config.training.local_epochs
    n_train = count // epochs
    orders = [torch.cat(epoch_batches(config, site, round_number, epoch, n_train)) for epoch in range(epochs)]
    numbers = torch.arange(epochs).repeat_interleave(n_train) + round_number * epochs
    return torch.cat(orders), numbers


def evaluation(recording: Recording, site: str, field: Field) -> Sent:
    """Return what crossed in the final test, in the order of the test images.

    Raises:
        AttackError: the run was not tested.
    """
    return _in_order(recording, site, Phase.TEST, field)


def _tensor(exchange: Exchange, field: Field) -> Tensor:
    fields = exchange.reply.fields | exchange.request.fields
    if field in fields:
        return fields[field].to(torch.float32)
    raise AttackError(
        f"{field.name} does not cross in {exchange.request.phase.name}; nothing to attack in this run"
    )
