"""What a job's releases can tell at most: signal-to-noise ratios, an error floor, differential privacy.

A latent is bounded before it is noised: standardised over its d numbers, its L2 norm is at most √d, and the
clamp only lowers that. Replacing an image moves √ᾱ x by at most 2 √(d ᾱ) under noise of √(1 − ᾱ), hence one
release is μ-Gaussian differentially private with μ = 2 √(d SNR), k of them with √k times that, and all m
images of a patient, each noised by itself, with √m times that again (Dong, Roth & Su, "Gaussian Differential
Privacy", 2022: Gaussian mechanisms compose exactly).

The account is of a sample's own releases, given the networks. That the networks have been trained on the
sample, and other samples' releases show it, is a second way that it does not bound.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from scipy.optimize import brentq
from scipy.special import erfcx, ndtr

from mucald.config.job import JobConfig
from mucald.config.sections import ReleaseConfig
from mucald.methods.split.model.crdm.schedule import CosineSchedule

DELTA = 1e-5
VACUOUS_EPSILON = 10.0
"""From here on a guarantee is called empty: odds may change by a factor of e^10, about 22 000."""


def release_snr(release: ReleaseConfig) -> float | None:
    """Return the signal-to-noise ratio of one release per number of the latent; None without noise."""
    return float(CosineSchedule(release.timesteps).snr(release.t)) if release.noised else None


def releases_per_sample(config: JobConfig) -> dict[str, int]:
    """Return how often an image of each split is released in the whole run."""
    if config.release.mode == "once":
        return {"train": 1, "validation": 1, "test": 1}
    return {"train": steps_per_sample(config), "validation": config.training.rounds, "test": 1}


def steps_per_sample(config: JobConfig) -> int:
    """Return in how many training steps of the whole run an image takes part."""
    return config.training.rounds * config.training.local_epochs


def epsilon(mu: float, delta: float = DELTA) -> float:
    """Return the ε for which a μ-Gaussian differentially private mechanism is (ε, δ) private, exactly.

    Solves δ = Φ(a) − e^ε Φ(a − μ) with a = μ/2 − ε/μ (Balle & Wang, "Improving the Gaussian Mechanism", 2018,
    theorem 8). Since e^ε φ(a − μ) = φ(a), the second term is e^(−a²/2) erfcx((μ − a)/√2) / 2, in which
    nothing overflows however large μ is, and a stays of the order of Φ⁻¹(δ).

    Args:
        mu: μ ≥ 0.
        delta: δ in (0, 1).
    """
    if mu == 0 or _delta(mu / 2, mu) <= delta:
        return 0.0
    lowest = -40.0  # Φ(−40) is 0 in float64
    a = brentq(lambda a: _delta(a, mu) - delta, lowest, mu / 2, xtol=1e-13, rtol=1e-14)
    return mu * (mu / 2 - a)


def _delta(a: float, mu: float) -> float:
    return float(ndtr(a) - math.exp(-(a**2) / 2) * erfcx((mu - a) / math.sqrt(2)) / 2)


@dataclass(frozen=True)
class Bound:
    """What repeated Gaussian releases of one quantity guarantee; None where nothing does.

    Args:
        releases: how often a sample takes part.
        error_floor: least mean squared error per number of any unbiased estimate from all releases (Cramér &
            Rao), in units of the standardised latent's variance; 0 without noise, None where scores are not
            of a known scale.
        mu: μ of Gaussian differential privacy when all images of a patient are replaced.
        epsilon: ε at δ = 1e-5 for that.
    """

    releases: int
    error_floor: float | None
    mu: float | None
    epsilon: float | None


@dataclass(frozen=True)
class Account:
    """The account of one run for one site.

    Args:
        images_per_case: m, the most images of a patient; 1 where that is not known.
        numbers: d, how many numbers a latent has.
        snr: of one release, per number; None if nothing is noised.
        latents: by split.
        feature_gradients: of ∂L/∂x̂2, which depends on the labels.
        proxy_snr: of one proxy, released once; None if none is sent, or without noise.
        proxies_sent: whether proxies leave.
    """

    images_per_case: int
    numbers: int
    snr: float | None
    latents: dict[str, Bound]
    feature_gradients: Bound
    proxy_snr: float | None
    proxies_sent: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the account as JSON, with what it means."""
        return {"delta": DELTA, **asdict(self), "meaning": meaning(self)}


def account(config: JobConfig, images_per_case: int = 1) -> Account:
    """Return the account of a job.

    Args:
        config: the job, its release as the site carries it out.
        images_per_case: m ≥ 1.
    """
    # Imported here: it brings MONAI, which takes a second, and readers of results build no network.
    from mucald.nets import backbone_of

    numbers = math.prod(backbone_of(config.network).latent_shape(config.data.image_size))
    snr = release_snr(config.release)
    latents = {}
    for split, releases in releases_per_sample(config).items():
        # With ε in hand the server subtracts the noise; evaluation does not send it. Where releases share
        # their noise, subtracting one from another removes it.
        known = split == "train" and config.crdm.supervision == "epsilon"
        known = known or (config.release.mode == "memoised" and releases > 1)
        latents[split] = _latent_bound(
            None if known else snr, releases, numbers, config.release.clip, images_per_case
        )
    sent = config.crdm.encoder != "none"
    deviation = config.release.proxy_noise_std
    return Account(
        images_per_case,
        numbers,
        snr,
        latents,
        _gradient_bound(config, images_per_case),
        1 / deviation**2 if sent and deviation else None,
        sent,
    )


def _latent_bound(snr: float | None, releases: int, numbers: int, clip: float, images: int) -> Bound:
    if snr is None:
        return Bound(releases, 0.0, None, None)
    mu = 2 * min(clip, 1.0) * math.sqrt(numbers * snr * releases * images)
    return Bound(releases, 1 / (releases * snr), mu, epsilon(mu))


def _gradient_bound(config: JobConfig, images: int) -> Bound:
    """Bound the feature gradients: an image changes all of its batch, each by at most twice the clip."""
    steps, deviation = steps_per_sample(config), config.release.gradient_noise_std
    if deviation == 0:
        return Bound(steps, None, None, None)
    mu = 2 * math.sqrt(config.training.batch_size * steps * images) / deviation
    return Bound(steps, None, mu, epsilon(mu))


def meaning(account: Account) -> list[str]:
    """Return what the account says, in plain sentences."""
    return [*_of_latents(account), _of_gradients(account), _of_proxies(account)]


def _of_latents(account: Account) -> list[str]:
    train = account.latents["train"]
    if account.snr is None:
        return ["Latents leave without noise: the server has them, and no bound holds."]
    if train.mu is None:
        return ["The noise of training latents is given to the server, or cancels: no bound holds."]
    assert train.error_floor is not None
    times, them = ("once", "it") if train.releases == 1 else (f"{train.releases} times", "all of them")
    floor = (
        f"A training image leaves {times} at SNR {account.snr:.3g}. An unbiased estimate of its latent from "
        f"{them} errs by at least {train.error_floor:.3g} of its variance per number"
    )
    if train.error_floor >= 1:
        floor += ", more than guessing the mean does"
    return [f"{floor}. Knowledge of typical images lowers that.", f"Latents: {_guarantee(train)}"]


def _of_gradients(account: Account) -> str:
    if account.feature_gradients.mu is None:
        return "Feature gradients leave without noise: what they tell of the labels is not bounded."
    return f"Feature gradients: {_guarantee(account.feature_gradients)}"


def _of_proxies(account: Account) -> str:
    if not account.proxies_sent:
        return "No proxies leave."
    if account.proxy_snr is None:
        return "Proxies leave without noise: no bound holds for them."
    return (
        f"Proxies leave once at SNR {account.proxy_snr:.3g}. They are z-scores without a limit, so no "
        "differential privacy holds for them."
    )


def _guarantee(bound: Bound) -> str:
    assert bound.mu is not None
    assert bound.epsilon is not None
    value = f"ε = {bound.epsilon:.2g} at δ = {DELTA:g}"
    if bound.epsilon >= VACUOUS_EPSILON:
        return f"{value} guarantees nothing in the worst case; what attackers achieve has to be measured."
    odds = 100 * float(ndtr(bound.mu / 2))
    return f"{value}; who has to tell which of two images it was is right at most {odds:.0f} times in 100."
