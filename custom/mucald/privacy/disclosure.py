"""What leaves a site: every method declares it, and policy, account, results and docs read nothing else."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mucald.privacy.gaussian import DELTA, Bound

Fact = float | int | str | None


@dataclass(frozen=True)
class Kind:
    """A kind of thing that can leave.

    Args:
        meaning: what it is, in a few words.
        limits: what a policy that allows it has to say. ``max_x`` and ``min_x`` bound the fact ``x`` by a
            number, null for no bound; any other name lists the values that this fact may have.
    """

    meaning: str
    limits: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "scores": Kind("losses, scores and counts of samples, in every report"),
    "latents": Kind(
        "numbers that the front end makes of an image",
        ("max_snr", "mode", "max_releases", "min_cut", "max_channels", "payload_type"),
    ),
    "latent noise": Kind("the noise on latents, with which the server subtracts it"),
    "feature gradients": Kind(
        "the loss's gradient with respect to the server's features; depends on the labels",
        ("max_clip", "min_noise", "payload_type"),
    ),
    "proxies": Kind("numbers computed from image and mask, such as the lesion's size", ("min_noise",)),
    "weights": Kind("parameters trained on the site's images", ("part", "max_epsilon")),
}
"""Everything that can leave; what has no entry here no policy can allow."""

WEIGHT_PARTS = ("front end", "encoder", "whole network", "decoder under DP")


@dataclass(frozen=True)
class Disclosure:
    """One thing that a job lets leave a site.

    Args:
        kind: of :data:`KINDS`, or a new one, which every policy refuses.
        often: how often, in words.
        noise: what noise is on it, in words.
        facts: what a policy bounds.
        bounds: what repeated releases guarantee, by what is released; empty where nothing does.
        meaning: what it tells at most, in plain sentences.
    """

    kind: str
    often: str
    noise: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    meaning: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the disclosure as JSON."""
        return asdict(self) | {"meaning": list(self.meaning)}


SCORES = Disclosure(
    "scores",
    "in every round",
    "none",
    meaning=("Losses, scores and numbers of images leave as they are.",),
)
"""What every method discloses: its reports."""


def weights(part: str, often: str) -> Disclosure:
    """Return the disclosure of weights without noise.

    Args:
        part: of :data:`WEIGHT_PARTS`.
        often: how often they leave, in words.
    """
    return Disclosure(
        "weights",
        often,
        "none",
        {"part": part, "epsilon": None},
        meaning=(
            f"Weights ({part}) leave without noise, which guarantees nothing: who has them may reconstruct "
            "training images or tell who was trained on.",
        ),
    )


def account(disclosures: Sequence[Disclosure], images_per_case: int) -> dict[str, Any]:
    """Return what disclosures can tell, as JSON.

    Args:
        disclosures: of one job at one site.
        images_per_case: most images of a patient; 1 where that is not known.
    """
    return {
        "delta": DELTA,
        "images_per_case": images_per_case,
        "disclosures": [disclosure.to_dict() for disclosure in disclosures],
        "meaning": [sentence for disclosure in disclosures for sentence in disclosure.meaning],
    }


def kinds_of(disclosures: Collection[Disclosure]) -> list[str]:
    """Return the kinds that occur, each once, in their order."""
    return list(dict.fromkeys(disclosure.kind for disclosure in disclosures))
