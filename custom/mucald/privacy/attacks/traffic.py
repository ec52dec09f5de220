"""What a server can put together from its own messages: which tensor belongs to which sample of a site.

Shuffling follows from the job's seed, which the server knows, so it can follow a training sample from epoch
to epoch.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from mucald.config import JobConfig
from mucald.errors import AttackError
from mucald.privacy.recording import Exchange, Recording
from mucald.split.messages import Field, Message, Phase
from mucald.split.site import shuffled

TRAIN_FORWARD = (Phase.TRAIN_FORWARD, Phase.TRAIN_FORWARD_WITH_NOISE)


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
        chosen = torch.isin(self.rows, rows)
        return Sent(self.values[chosen], self.rows[chosen], self.epochs[chosen])

    def averaged(self, rows: Tensor) -> Tensor:
        """Return the mean over epochs of each of the samples ``rows``, in that order."""
        return torch.stack([self.values[self.rows == row].mean(dim=0) for row in rows])


def training_rounds(recording: Recording, site: str) -> list[int]:
    """Return the rounds in which a site trained, in order.

    Raises:
        AttackError: there is none.
    """
    rounds = sorted({e.request.round for e in recording.exchanges(site, Phase.TRAIN_BACKWARD)})
    if not rounds:
        raise AttackError(f"the recording holds no training step of site '{site}'")
    return rounds


def training(recording: Recording, site: str, field: Field, last_rounds: int | None = None) -> Sent:
    """Return what crossed in training steps, with the samples that it belongs to.

    Args:
        recording: the run's messages.
        site: name of the site.
        field: which tensor, wherever in a training step it stands.
        last_rounds: look at the last so many rounds alone; at all by default.

    Raises:
        AttackError: no such tensor crossed.
    """
    rounds = training_rounds(recording, site)[-(last_rounds or 0) :]
    backward = (Phase.TRAIN_BACKWARD,)
    phases = backward if field in (Field.FEATURE_GRADIENT, Field.LATENT_GRADIENT) else TRAIN_FORWARD
    steps: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
    for exchange in recording.exchanges(site, *phases, rounds=rounds):
        steps[exchange.request.round].append((exchange.request.step, _tensor(exchange, field)))
    values, rows, epochs = [], [], []
    for number, tensors in steps.items():
        tensors.sort(key=lambda pair: pair[0])
        ordered = torch.cat([tensor for _, tensor in tensors])
        samples, epoch = sample_order(recording.config, site, number, len(ordered))
        values.append(ordered)
        rows.append(samples)
        epochs.append(epoch)
    return Sent(torch.cat(values), torch.cat(rows), torch.cat(epochs))


def first_round(recording: Recording, site: str, field: Field) -> Tensor:
    """Return what crossed in the forward messages of the first round's training, in their order (N, …).

    Raises:
        AttackError: no such tensor crossed, or the recording begins later.
    """
    found = [_tensor(exchange, field) for exchange in recording.exchanges(site, *TRAIN_FORWARD, rounds=(0,))]
    if not found:
        raise AttackError("the recording does not begin with the first round")
    return torch.cat(found)


def sample_order(config: JobConfig, site: str, round_number: int, count: int) -> tuple[Tensor, Tensor]:
    """Return which sample (count,) each latent of a round's training shows, and in which epoch (count,).

    Args:
        config: the job, with its seed.
        site: name of the site.
        round_number: the round.
        count: latents of the round, over all its epochs.
    """
    epochs = config.training.local_epochs
    n_train = count // epochs
    orders = [torch.cat(shuffled(config, site, n_train, round_number, epoch)) for epoch in range(epochs)]
    numbers = torch.arange(epochs).repeat_interleave(n_train) + round_number * epochs
    return torch.cat(orders), numbers


def evaluation(recording: Recording, site: str, field: Field) -> Sent:
    """Return what crossed in the final test, in the order of the test images.

    Raises:
        AttackError: the run was not tested.
    """
    tensors = [_tensor(exchange, field) for exchange in recording.exchanges(site, Phase.TEST)]
    if not tensors:
        raise AttackError(f"the recording holds no test of site '{site}'; let the run end")
    values = torch.cat(tensors)
    return Sent(values, torch.arange(len(values)), torch.zeros(len(values), dtype=torch.int64))


def _tensor(exchange: Exchange, field: Field) -> Tensor:
    message: Message
    for message in (exchange.request, exchange.reply):
        if field in message.fields:
            return message.fields[field].to(torch.float32)
    raise AttackError(
        f"{field.name} does not cross in {exchange.request.phase.name}; nothing to attack in this run"
    )
