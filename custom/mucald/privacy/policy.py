"""A site's policy, ``<home>/policy.json``: what it lets out, whatever a job asks.

The hospital writes it, and the site reads it before it touches an image. A job that asks for less protection
is refused before anything leaves; the bounds on the feature gradient are applied by the site itself.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from mucald.config.job import JobConfig
from mucald.config.schema import parse, read_json
from mucald.config.sections import (
    PayloadType,
    ReleaseConfig,
    ReleaseMode,
    Supervision,
    require,
    require_at_least,
    require_gradient_release,
)
from mucald.data.site_file import SITE_FILE
from mucald.errors import ConfigError, PolicyError
from mucald.methods.split.algorithms import make_algorithm
from mucald.privacy.accountant import release_snr, releases_per_sample

POLICY_FILE = "policy.json"


@dataclass(frozen=True)
class Policy:
    """The content of ``policy.json``; every field is one of its keys, and all must be there.

    Args:
        require_noise: refuse jobs that release latents without noise.
        max_snr: highest signal-to-noise ratio ᾱ_t / (1 − ᾱ_t) per number of one release; None allows any.
        release_modes: values that the job's ``release.mode`` may have; ``memoised`` would cancel the noise.
        supervision: what a server's denoiser may learn from; ``epsilon`` would hand it the noise.
        max_releases: how often one image may be released in a run; None allows any number.
        min_cut: encoder levels that must stay at the site.
        max_latent_channels: most channels of a latent; None allows any.
        payload_types: types in which latents and feature gradients may leave.
        min_proxy_noise_std: least noise on proxies, in standard deviations of the proxy.
        share_front_end: allow algorithms whose server knows the front end.
        gradient_clip: greatest L2 norm of a sample's feature gradient that leaves; None sets no bound.
        gradient_noise_std: least noise on it, in units of the clip.
        tensorboard_images: allow pictures in the site's own run folder, if ``site.json`` wants them too.
        recording: allow that the site's own messages are recorded.

    Raises:
        ValueError: fields contradict each other or lie outside their range.
    """

    require_noise: bool
    max_snr: float | None
    release_modes: tuple[ReleaseMode, ...]
    supervision: tuple[Supervision, ...]
    max_releases: int | None
    min_cut: int
    max_latent_channels: int | None
    payload_types: tuple[PayloadType, ...]
    min_proxy_noise_std: float
    share_front_end: bool
    gradient_clip: float | None
    gradient_noise_std: float
    tensorboard_images: bool
    recording: bool

    def __post_init__(self) -> None:
        require(self.max_snr is None or self.max_snr > 0, "max_snr must be positive, or null for no bound")
        require(
            self.require_noise or self.max_snr is None,
            "max_snr bounds what leaves without noise too, so require_noise must be true",
        )
        for name in ("max_releases", "max_latent_channels"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1, or null for no bound")
        for name in ("release_modes", "supervision", "payload_types"):
            require(len(getattr(self, name)) > 0, f"{name} must allow at least one")
        require_at_least(0, self, "min_cut", "min_proxy_noise_std")
        require_gradient_release(self)

    def tightened(self, release: ReleaseConfig) -> ReleaseConfig:
        """Return the job's release with the stricter of its own and the policy's bounds on the gradient."""
        clips = [clip for clip in (release.gradient_clip, self.gradient_clip) if clip is not None]
        return replace(
            release,
            gradient_clip=min(clips, default=None),
            gradient_noise_std=max(release.gradient_noise_std, self.gradient_noise_std),
        )


OPEN = Policy(
    require_noise=False,
    max_snr=None,
    release_modes=("fresh", "once", "memoised"),
    supervision=("sure", "ambient", "epsilon"),
    max_releases=None,
    min_cut=0,
    max_latent_channels=None,
    payload_types=("float32", "bfloat16", "int8", "int4"),
    min_proxy_noise_std=0.0,
    share_front_end=True,
    gradient_clip=None,
    gradient_noise_std=0.0,
    tensorboard_images=True,
    recording=True,
)
"""Allows every job. It holds for phantoms, which are nobody's."""

DEFAULT = Policy(
    require_noise=True,
    max_snr=0.05,
    release_modes=("once",),
    supervision=("sure", "ambient"),
    max_releases=1,
    min_cut=2,
    max_latent_channels=16,
    payload_types=("float32", "bfloat16", "int8", "int4"),
    min_proxy_noise_std=0.5,
    share_front_end=False,
    gradient_clip=None,
    gradient_noise_std=0.0,
    tensorboard_images=True,
    recording=False,
)
"""Holds for a site with images of its own that has written none."""


def read_policy(home: Path, site: str) -> Policy:
    """Return the policy of a site: its ``policy.json``, or :data:`DEFAULT`, or :data:`OPEN` for phantoms.

    Raises:
        PolicyError: the file is not JSON, a key is unknown or missing, or a value is impossible.
    """
    path = home / POLICY_FILE
    if not path.exists():
        return DEFAULT if (home / SITE_FILE).exists() else OPEN
    try:
        return parse(Policy, read_json(path))
    except ConfigError as error:
        raise PolicyError(
            f"{path}: {error}", public=f"site '{site}' cannot start: its {POLICY_FILE} is wrong, see its log"
        ) from None


def check_job(policy: Policy, site: str, config: JobConfig) -> None:
    """Check that a job asks for nothing that the policy forbids.

    Raises:
        PolicyError: naming every rule that the job breaks, what is allowed and what is asked; public as a
            whole.
    """
    broken = [*_broken_by_latents(policy, config), *_broken_by_the_rest(policy, config)]
    if broken:
        rules = "; ".join(f"policy {rule}, job {asks}" for rule, asks in broken)
        message = f"site '{site}' refuses: {rules}"
        raise PolicyError(message, public=message)


def _broken_by_latents(policy: Policy, config: JobConfig) -> list[tuple[str, str]]:
    broken, network = [], config.network
    snr = release_snr(config.release)
    if snr is None:
        if policy.require_noise:
            broken.append(("require_noise true", "releases without noise"))
    elif policy.max_snr is not None and snr > policy.max_snr:
        broken.append((f"max_snr {policy.max_snr:g}", f"releases at SNR {snr:.3g}"))
    if config.release.mode not in policy.release_modes:
        allowed = ", ".join(policy.release_modes)
        broken.append((f"release_modes {allowed}", f"releases {config.release.mode}"))
    releases = max(releases_per_sample(config).values())
    if policy.max_releases is not None and releases > policy.max_releases:
        broken.append((f"max_releases {policy.max_releases}", f"releases an image {releases} times"))
    if network.cut < policy.min_cut:
        broken.append((f"min_cut {policy.min_cut}", f"cuts at {network.cut}"))
    if policy.max_latent_channels is not None and network.latent_channels > policy.max_latent_channels:
        broken.append(
            (f"max_latent_channels {policy.max_latent_channels}", f"releases {network.latent_channels}")
        )
    return broken


def _broken_by_the_rest(policy: Policy, config: JobConfig) -> list[tuple[str, str]]:
    broken = []
    supervision, proxy_noise = config.crdm.supervision, config.release.proxy_noise_std
    # Without noise there is none to hand out.
    if config.release.noised and supervision not in policy.supervision:
        broken.append((f"supervision {', '.join(policy.supervision)}", f"asks for {supervision}"))
    if config.crdm.encoder != "none" and proxy_noise < policy.min_proxy_noise_std:
        broken.append((f"min_proxy_noise_std {policy.min_proxy_noise_std:g}", f"noises with {proxy_noise:g}"))
    for name in ("latent", "feature_gradient"):
        payload_type = getattr(config.wire, name)
        if payload_type not in policy.payload_types:
            allowed = ", ".join(policy.payload_types)
            broken.append((f"payload_types {allowed}", f"sends the {name} as {payload_type}"))
    if make_algorithm(config.algorithm).shares_front_end and not policy.share_front_end:
        broken.append(("share_front_end false", f"shares it ({config.algorithm.name})"))
    return broken
