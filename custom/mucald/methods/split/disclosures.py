"""What a split job discloses, and what its releases can tell at most.

A latent is bounded before it is noised: standardised over its d numbers, its L2 norm is at most √d, and the
clamp only lowers that. Replacing an image moves √ᾱ x by at most 2 √(d ᾱ) under noise of √(1 − ᾱ), hence one
release is μ-Gaussian differentially private with μ = 2 √(d SNR), k of them with √k times that, and all m
images of a patient, each noised by itself, with √m times that again (Dong, Roth & Su, "Gaussian Differential
Privacy", 2022: Gaussian mechanisms compose exactly).

The account is of a sample's own releases, given the networks. That the networks have been trained on the
sample, and other samples' releases show it, is a second way that it does not bound.
"""

import math
from dataclasses import replace

from mucald.methods.split.algorithms import Algorithm, make_algorithm
from mucald.methods.split.config import ReleaseConfig, SplitConfig
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.nets import backbone_of
from mucald.privacy.disclosure import SCORES, Disclosure, weights
from mucald.privacy.gaussian import Bound
from mucald.privacy.policy import Policy

_HANDED_OVER = ("Every site gets a middle network at the end that has learnt from the latents of others.",)


def release_snr(release: ReleaseConfig) -> float | None:
    """Return the signal-to-noise ratio of one release per number of the latent; None without noise."""
    return float(CosineSchedule(release.timesteps).snr(release.t)) if release.noised else None


def releases_per_sample(config: SplitConfig) -> dict[str, int]:
    """Return how often an image of each data split is released in the whole run."""
    if config.release.mode == "once":
        return {"train": 1, "validation": 1, "test": 1}
    return {"train": steps_per_sample(config), "validation": config.training.rounds, "test": 1}


def steps_per_sample(config: SplitConfig) -> int:
    """Return in how many training steps of the whole run an image takes part."""
    return config.training.rounds * config.training.local_epochs


def latent_numbers(config: SplitConfig) -> int:
    """Return how many numbers d a latent has."""
    return math.prod(backbone_of(config.network).latent_shape(config.data.image_size))


def under(policy: Policy, config: SplitConfig) -> SplitConfig:
    """Return the job as a site with this policy carries it out: with the stricter bounds on the gradient."""
    release, kind = config.release, "feature gradients"
    clips = [clip for clip in (release.gradient_clip, policy.limit(kind, "max_clip")) if clip is not None]
    clip, noise = min(clips, default=None), policy.limit(kind, "min_noise") or 0.0
    if clip is not None:
        release = replace(
            release, gradient_clip=clip, gradient_noise_std=max(release.gradient_noise_std, noise)
        )
    return replace(config, release=release)


def disclosures(config: SplitConfig, images_per_case: int = 1) -> list[Disclosure]:
    """Return all that a job discloses.

    Args:
        config: the job, its release as the site carries it out.
        images_per_case: m, the most images of a patient; 1 where that is not known.
    """
    found = [SCORES, _latents(config, images_per_case), _gradients(config, images_per_case)]
    if config.release.noised and config.crdm.supervision == "epsilon":
        found.append(
            Disclosure(
                "latent noise",
                "with every training release",
                "none",
                meaning=("The noise of training latents is given to the server, which subtracts it.",),
            )
        )
    if config.crdm.encoder != "none":
        found.append(_proxies(config))
    algorithm = make_algorithm(config.algorithm)
    if algorithm.shares_front_end:
        found.append(weights("front end", "in every round"))
    if algorithm.shared_ends and any(algorithm.group(config, site) for site in config.sites):
        found.append(_ends(algorithm))
    return found


def _ends(algorithm: Algorithm) -> Disclosure:
    both = "back_end" in algorithm.shared_ends
    part = "front and back end" if both else "front end"
    if algorithm.seals:
        shared = weights(f"{part}, sealed", "in every round")
        readers = "Each site of the group reads those of the others; the server relays what it cannot read."
    else:
        shared = weights(part, "in every round")
        known = "the whole network of each site" if both else "all of each site's network but the back end"
        readers = (
            f"The server reads them, and has the middle network too: it knows {known}. "
            "Each site of the group gets their mean."
        )
    return replace(shared, meaning=(*shared.meaning, readers))


def _latents(config: SplitConfig, images: int) -> Disclosure:
    snr, releases, network = release_snr(config.release), releases_per_sample(config), config.network
    bounds = {}
    for split, times in releases.items():
        # With ε in hand the server subtracts the noise; evaluation does not send it.
        known = split == "train" and config.crdm.supervision == "epsilon"
        bounds[split] = _latent_bound(config, None if known else snr, times, images)
    return Disclosure(
        "latents",
        ", ".join(f"{times} × per {split} image" for split, times in releases.items()),
        "none" if snr is None else f"Gaussian, SNR {snr:.3g} on each of {latent_numbers(config)} numbers",
        {
            "snr": snr,
            "mode": config.release.mode,
            "releases": max(releases.values()),
            "cut": network.cut,
            "channels": network.latent_channels,
            "payload_type": config.wire.latent,
        },
        bounds,
        _meaning_of_latents(snr, bounds["train"]) + (_HANDED_OVER if config.handover.epochs else ()),
    )


def _latent_bound(config: SplitConfig, snr: float | None, releases: int, images: int) -> Bound:
    if snr is None:
        return Bound(releases, 0.0)
    mu = 2 * min(config.release.clip, 1.0) * math.sqrt(latent_numbers(config) * snr * releases * images)
    return Bound(releases, 1 / (releases * snr), mu)


def _meaning_of_latents(snr: float | None, train: Bound) -> tuple[str, ...]:
    if snr is None:
        return ("Latents leave without noise: the server has them, and no bound holds.",)
    if train.mu is None or train.error_floor is None:
        return ("The server can take the noise off training latents: no bound holds.",)
    times, them = ("once", "it") if train.releases == 1 else (f"{train.releases} times", "all of them")
    floor = (
        f"A training image leaves {times} at SNR {snr:.3g}. An unbiased estimate of its latent from {them} "
        f"errs by at least {train.error_floor:.3g} of its variance per number"
    )
    if train.error_floor >= 1:
        floor += ", more than guessing the mean does"
    return (f"{floor}. Knowledge of typical images lowers that.",)


def _gradients(config: SplitConfig, images: int) -> Disclosure:
    """Account for feature gradients: an image changes all of its batch, each by at most twice the clip."""
    steps, release = steps_per_sample(config), config.release
    bound = Bound(steps)
    if release.gradient_noise_std:
        mu = 2 * math.sqrt(config.training.batch_size * steps * images) / release.gradient_noise_std
        bound = Bound(steps, None, mu)
    noised = f"Gaussian, {release.gradient_noise_std:g} of the clip {release.gradient_clip or 0:g}"
    return Disclosure(
        "feature gradients",
        f"{steps} × per training image",
        noised if release.gradient_noise_std else "none",
        {
            "clip": release.gradient_clip,
            "noise": release.gradient_noise_std,
            "payload_type": config.wire.feature_gradient,
        },
        {"train": bound},
        ()
        if bound.mu
        else ("Feature gradients leave without noise: what they tell of the labels is not bounded.",),
    )


def _proxies(config: SplitConfig) -> Disclosure:
    deviation = config.release.proxy_noise_std
    said = (
        f"Proxies leave once at SNR {1 / deviation**2:.3g}. They are z-scores without a limit, so no "
        "differential privacy holds for them."
        if deviation
        else "Proxies leave without noise: no bound holds for them."
    )
    noise = f"Gaussian, {deviation:g} standard deviations" if deviation else "none"
    return Disclosure("proxies", "once per run", noise, {"noise": deviation}, meaning=(said,))
