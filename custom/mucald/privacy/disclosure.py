"""What leaves a site: every method declares it, and policy, account, results and docs read nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mucald.privacy.dp.budget import Guarantee
from mucald.privacy.gaussian import DELTA, Bound, epsilon

Fact = float | int | str | None


@dataclass(frozen=True)
class Limit:
    """What a policy says of one fact: ``max_x`` and ``min_x`` of the number ``x``, other names of a name.

    Args:
        meaning: what it limits, in a few words.
        values: the names that the fact can have, of which a policy lists those that it allows; None where the
            fact is a number, of which a policy gives a bound, or null for none.
        unit: the limit in whose units it counts, which must then be given too.
    """

    meaning: str
    values: tuple[str, ...] | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of thing that can leave.

    Args:
        meaning: what it is, in a few words.
        limits: what a policy that allows it has to say of it, by name.
    """

    meaning: str
    limits: Mapping[str, Limit] = field(default_factory=dict)


WEIGHT_PARTS = (
    "front end",
    "front end, sealed",
    "front and back end",
    "front and back end, sealed",
    "encoder",
    "whole network",
    "decoder",
    "classifier",
    "decoder under DP",
    "classifier under DP",
    "class Gaussians under DP",
)
_PAYLOAD_TYPE = Limit("number formats in which they may leave", ("float32", "bfloat16", "int8", "int4"))

KINDS: dict[str, Kind] = {
    "scores": Kind(
        "losses, scores, numbers of images and times, in every report; where embeddings train together, a "
        "hash of how they were made"
    ),
    "latents": Kind(
        "numbers that the front end makes of an image",
        {
            "max_snr": Limit("signal-to-noise ratio of one release, per number; any bound asks for noise"),
            "mode": Limit("whether an image is released anew in every step, or once", ("fresh", "once")),
            "max_releases": Limit("how often one image is released in a run"),
            "min_cut": Limit("encoder levels that stay at the site"),
            "max_channels": Limit("channels of a latent"),
            "payload_type": _PAYLOAD_TYPE,
        },
    ),
    "latent noise": Kind("the noise on latents, with which the server subtracts it"),
    "feature gradients": Kind(
        "the loss's gradient with respect to the server's features; depends on the labels",
        {
            "max_clip": Limit("L2 norm of a sample's gradient; the site itself clips it"),
            "min_noise": Limit("noise on it, in units of the clip; the site itself adds it", unit="max_clip"),
            "payload_type": _PAYLOAD_TYPE,
        },
    ),
    "proxies": Kind(
        "numbers computed from image and mask, such as the lesion's size",
        {"min_noise": Limit("noise on them, in standard deviations of the proxy")},
    ),
    "weights": Kind(
        "parameters trained on the site's images",
        {
            "part": Limit("of which network", WEIGHT_PARTS),
            "max_epsilon": Limit("ε of one job, at its δ; any bound refuses weights without noise"),
            "max_delta": Limit("δ of one job; any bound refuses weights without noise"),
            "max_total_epsilon": Limit(
                "ε, at the largest δ allowed, of all jobs that used one image, by the site's ledger"
            ),
        },
    ),
}
"""Everything that can leave; what has no entry here no policy can allow."""


def fact_of(limit: str) -> str:
    """Return the name of the fact that a limit is about."""
    return limit.removeprefix("max_").removeprefix("min_")


def shown(value: Any) -> str:
    """Return a fact, or what a policy says of one, as a person reads it."""
    if value is None:
        return "without bound"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Disclosure:
    """One thing that a job lets leave a site.

    Args:
        kind: of :data:`KINDS`, or a new one, which every policy refuses.
        often: how often, in words.
        noise: what noise is on it, in words.
        facts: what policies limit (:func:`fact_of`); a number is None where nothing bounds it.
        bounds: what repeated releases guarantee, by data split; empty where nothing does.
        meaning: what it tells at most beside its bounds, in plain sentences.
    """

    kind: str
    often: str
    noise: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    meaning: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return what it tells at most, and what the weakest of its bounds guarantees."""
        bounds = list(self.bounds.values())
        if not bounds or any(bound.mu is None for bound in bounds):
            return list(self.meaning)
        weakest = max(bounds, key=lambda bound: bound.mu or 0.0)
        return [*self.meaning, f"{self.kind.capitalize()}: {weakest.meaning}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the disclosure as JSON."""
        bounds = {split: bound.to_dict() for split, bound in self.bounds.items()}
        return asdict(self) | {"bounds": bounds, "meaning": self.sentences()}


SCORES = Disclosure(
    "scores",
    "in every round",
    "none",
    meaning=("Losses, scores, also those of each test image, and numbers of images leave as they are.",),
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
        {"part": part, "epsilon": None, "delta": None, "total_epsilon": None},
        meaning=(
            f"Weights ({part}) leave without noise, which guarantees nothing: who has them may reconstruct "
            "training images or tell who was trained on.",
        ),
    )


def private_weights(part: str, often: str, guarantee: Guarantee, releases: int, per_case: int) -> Disclosure:
    """Return the disclosure of weights that were trained with clipped and noised gradients.

    Args:
        part: of :data:`WEIGHT_PARTS`.
        often: how often they leave, in words.
        guarantee: of the whole job, for one image.
        releases: noised sums over the images.
        per_case: most images of a patient.
    """
    facts = {"epsilon": guarantee.epsilon, "delta": guarantee.delta, "total_epsilon": guarantee.epsilon}
    multiplier = guarantee.noise_multiplier(releases)
    unit = "one image" if per_case == 1 else f"a patient with {per_case} images"
    whole = epsilon(per_case * guarantee.mu, guarantee.delta)
    return Disclosure(
        "weights",
        often,
        f"Gaussian, {multiplier:.4g} times the clip of an image's gradient, in each of {releases} sums",
        {"part": part, **facts},
        {"train": Bound(releases, mu=per_case * guarantee.mu)},
        (
            f"Weights ({part}) and all that is made from them are (ε, δ)-differentially private with ε = "
            f"{whole:.3g} and δ = {guarantee.delta:g}: {unit} more or less (add or remove; the number of "
            "images is public) changes the odds of anything they show by at most a factor of e^ε, but for δ.",
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
        "meaning": [sentence for disclosure in disclosures for sentence in disclosure.sentences()],
    }
