"""What every attack has in common: its interface, what it may know, and what it hands in."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from mucald_studies.attacks.harness.fitting import Curve

if TYPE_CHECKING:
    from mucald_studies.attacks.harness.view import View

Target = Literal["train", "test"]


class Knowledge(StrEnum):
    """What an attacker may have beside the messages, the job, and the server's networks.

    ``auxiliary``: images of the site's kind that are none of its own. ``front_end``: the site's trained front
    end. ``pairs``: a share of the training images and masks, and which messages are theirs. ``candidates``:
    images and masks of which some were trained on. ``outputs``: what the trained network says of any image;
    where weights travel, the network that the server can put together.
    ``sites``: the messages of all sites. ``control``: the server's replies are the attacker's.
    ``counterfactual``: what no job lets cross, to show why.
    """

    AUXILIARY = "auxiliary"
    FRONT_END = "front_end"
    PAIRS = "pairs"
    CANDIDATES = "candidates"
    OUTPUTS = "outputs"
    SITES = "sites"
    CONTROL = "control"
    COUNTERFACTUAL = "counterfactual"


@dataclass(frozen=True)
class Pictures:
    """Reconstructed images (N, 3, S, S) of the samples ``rows`` (N,) of split ``target``."""

    images: Tensor
    target: Target
    rows: Tensor
    curve: Curve = ()


@dataclass(frozen=True)
class Latents:
    """Recovered clean latents (N, L, h, w) of the first round's training releases, in their order.

    Or, as ``changes``, how each training sample's clean latent moved from its first release to its second, in
    the order of the samples.
    """

    latents: Tensor
    changes: bool = False


@dataclass(frozen=True)
class Masks:
    """Inferred masks (N, S, S) of the training samples ``rows``, and the one mask that is the best blind
    guess (S, S).
    """

    labels: Tensor
    blind: Tensor
    rows: Tensor
    curve: Curve = ()


@dataclass(frozen=True)
class MemberScores:
    """For each candidate (N,) how surely it was trained on, and a threshold calibrated without them."""

    scores: Tensor
    threshold: float | None = None


@dataclass(frozen=True)
class Hits:
    """By probe, whether each held-out map (N,) was assigned to its site, and the share that guessing gets."""

    hits: dict[str, Tensor]
    chance: float
    curve: Curve = ()


Finding = Pictures | Latents | Masks | MemberScores | Hits


@dataclass(frozen=True)
class Attack:
    """An attack: a function, with what it may know, made by :func:`attack`; it has an entry in ``ATTACKS``.

    Args:
        name: as the command line calls it; what stands before the dot is its family.
        knowledge: what it may know; anything else the view refuses.
        run: attacks with all that the view shows, or raises :class:`AttackError` if there is nothing to
            attack, or too little to attack with.
        draws: name of its random draws; attacks that differ in what they read alone may share them.
        reads_messages: whether it needs the messages of split learning; without, it can attack any run that
            leaves the attacker a network.
    """

    name: str
    knowledge: frozenset[Knowledge]
    run: Callable[["View"], Finding]
    draws: str
    reads_messages: bool = True


def attack(
    name: str, *knowledge: Knowledge, draws: str | None = None, reads_messages: bool = True
) -> Callable[[Callable[["View"], Finding]], Attack]:
    """Return what makes an attack of a function; its draws have its own name by default."""
    return lambda run: Attack(name, frozenset(knowledge), run, draws or name, reads_messages)
