"""A job's configuration: one JSON file, ``mucald.json``, that server and sites read alike.

Every field below is a key of that file; docs/configuration.md describes them in a table. Nothing here has a
hidden default: what a job does can be read from its file alone.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mucald.errors import ConfigError
from mucald.schema import parse, read_json

CONFIG_FILE = "mucald.json"

PayloadType = Literal["float32", "bfloat16", "int8"]

INDECISIVE = frozenset({"description", "resume_from", "runtime"})
"""The keys that leave a run's numbers as they are."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_at_least(minimum: int, section: Any, *names: str) -> None:
    for name in names:
        wanted = f"be at least {minimum}" if minimum else "not be negative"
        _require(getattr(section, name) >= minimum, f"{name} must {wanted}")


@dataclass(frozen=True)
class SiteConfig:
    """One site as the job sees it: its task, which decides its causal graph, and scales of its loss terms."""

    task: str
    segmentation_weight: float = 1.0
    adversarial_scale: float = 1.0
    proxy_scale: float = 1.0


@dataclass(frozen=True)
class PhantomConfig:
    """How many phantoms a site without data of its own draws."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class DataConfig:
    """Side of the square images in pixels, and the embedded phantoms."""

    image_size: int
    phantoms: PhantomConfig


@dataclass(frozen=True)
class TrainingConfig:
    """The schedule: ``rounds`` of ``local_epochs`` at every site."""

    rounds: int
    local_epochs: int
    batch_size: int

    def __post_init__(self) -> None:
        _require_at_least(1, self, "rounds", "local_epochs", "batch_size")


@dataclass(frozen=True)
class NetworkConfig:
    """The split network; ``cut`` encoder levels and their skips stay at the site (0: the paper's cut)."""

    backbone: str
    features: tuple[int, ...]
    cut: int
    latent_channels: int
    norm: Literal["instance", "group", "batch"]


@dataclass(frozen=True)
class ReleaseConfig:
    """What a site does to a latent before it leaves."""

    mode: Literal["fresh"]
    noised: bool
    clip: float
    timesteps: int
    t: int
    proxy_noise_std: float

    def __post_init__(self) -> None:
        _require(0 <= self.t < self.timesteps, f"t must lie in [0, {self.timesteps - 1}], not {self.t}")
        _require(self.clip > 0, "clip must be positive")
        _require_at_least(0, self, "proxy_noise_std")


@dataclass(frozen=True)
class CrdmConfig:
    """The causal representation and diffusion module, one at each split.

    ``encoder``: ``scm`` uses the task's causal graph, ``plain`` drops its edges, ``none`` drops the module.
    """

    encoder: Literal["scm", "plain", "none"]
    encoder_width: int
    causal_hidden: int
    denoiser: bool
    denoiser_width: int
    prediction: Literal["v", "x0"]
    supervision: Literal["sure", "ambient", "epsilon"]
    t_split2: int


@dataclass(frozen=True)
class DacaConfig:
    """Domain adversarial alignment: one discriminator per split, trained between rounds."""

    enabled: bool
    width: int
    buffer: int
    steps: int
    batch_per_site: int
    learning_rate: float

    def __post_init__(self) -> None:
        _require_at_least(1, self, "width", "buffer", "batch_per_site")
        _require_at_least(0, self, "steps", "learning_rate")


@dataclass(frozen=True)
class Ramp:
    """A loss weight that is 0 for ``warm_up`` of the run, then rises linearly to ``weight`` within ``ramp``.

    Both are fractions of the whole run, so unlike the reference the ramp does not start again every round.
    """

    weight: float
    warm_up: float
    ramp: float

    def __post_init__(self) -> None:
        _require_at_least(0, self, "weight")
        _require(0 <= self.warm_up <= 1 and 0 <= self.ramp <= 1, "warm_up and ramp are fractions of the run")

    def at(self, progress: float) -> float:
        """Return the weight at ``progress`` in [0, 1]."""
        if progress < self.warm_up:
            return 0.0
        return self.weight * (min((progress - self.warm_up) / self.ramp, 1.0) if self.ramp else 1.0)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms (MuCALD-SplitFed, ICIP 2026, training objective)."""

    cross_entropy: float
    proxy: Ramp
    diffusion: Ramp
    kl_exogenous: Ramp
    kl_causal: Ramp
    adversarial: Ramp
    proximal: float

    def __post_init__(self) -> None:
        _require_at_least(0, self, "cross_entropy", "proximal")


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW and its learning rates: front end, middle and back end; encoder, SCM and prior; denoisers."""

    segmentation: float
    causal: float
    denoiser: float
    weight_decay: float
    clip_norm: float

    def __post_init__(self) -> None:
        _require_at_least(0, self, "segmentation", "causal", "denoiser", "weight_decay")
        _require(self.clip_norm > 0, "clip_norm must be positive")


@dataclass(frozen=True)
class AggregationConfig:
    """The rule that turns the sites' copies into the next round's, and its arguments.

    ``statistics``: whether running means and variances of batch normalisation are averaged too.
    """

    rule: str
    statistics: bool
    args: dict[str, Any]


@dataclass(frozen=True)
class WireConfig:
    """Payload type per tensor that crosses."""

    latent: PayloadType
    features: PayloadType
    feature_gradient: PayloadType
    latent_gradient: PayloadType


@dataclass(frozen=True)
class RuntimeConfig:
    """Threads per process; seconds to wait for a step's reply, and for a site's whole task (0: for ever)."""

    threads: int
    step_timeout_s: float
    task_timeout_s: int

    def __post_init__(self) -> None:
        _require_at_least(1, self, "threads")
        _require(self.step_timeout_s > 0, "step_timeout_s must be positive")
        _require_at_least(0, self, "task_timeout_s")


@dataclass(frozen=True)
class JobConfig:
    """The whole of ``mucald.json``.

    Raises:
        ConfigError: on reading, if a key is unknown, missing or of the wrong type (:func:`load_config`).
    """

    name: str
    description: str
    seed: int
    min_sites: int
    resume_from: str | None
    sites: dict[str, SiteConfig]
    data: DataConfig
    training: TrainingConfig
    network: NetworkConfig
    release: ReleaseConfig
    crdm: CrdmConfig
    daca: DacaConfig
    losses: LossConfig
    optimiser: OptimiserConfig
    aggregation: AggregationConfig
    wire: WireConfig
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        _require_at_least(1, self, "min_sites")
        # Runs and their folders carry the name.
        _require(
            re.fullmatch(r"[\w.-]+", self.name) is not None,
            f"name must consist of letters, digits, '_', '-' and '.', not {self.name!r}",
        )
        _require(
            0 <= self.crdm.t_split2 < self.release.timesteps,
            f"crdm.t_split2 must lie in [0, {self.release.timesteps - 1}]",
        )
        _require(
            self.crdm.supervision != "ambient" or self.release.t < self.release.timesteps - 1,
            f"supervision ambient adds noise, so release.t must be below {self.release.timesteps - 1}",
        )

    def site(self, name: str) -> SiteConfig:
        """Return what the job says of site ``name``.

        Raises:
            ConfigError: nothing.
        """
        if name not in self.sites:
            raise ConfigError(
                f"site '{name}' has no task; add \"{name}\": {{\"task\": ...}} to 'sites' in {CONFIG_FILE}"
            )
        return self.sites[name]

    def progress(self, round_number: int) -> float:
        """Return how far the run is at ``round_number`` (from 0), between 0 and 1, for the loss ramps."""
        return round_number / max(self.training.rounds - 1, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the fully resolved configuration, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self) -> str:
        """Return a hash of all that decides the numbers of a run; a checkpoint only fits its own."""
        decisive = {key: value for key, value in self.to_dict().items() if key not in INDECISIVE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def load_config(folder: Path) -> JobConfig:
    """Read ``mucald.json`` in ``folder``.

    Raises:
        ConfigError: the file is missing or wrong; the message names the key and the closest known one.
    """
    return parse(JobConfig, read_json(folder / CONFIG_FILE))


def load_job(job: Path) -> tuple[JobConfig, list[str]]:
    """Read a job folder: its configuration and its sites, in the order of ``meta.json``'s ``deploy_map``.

    Raises:
        ConfigError: a file is missing or wrong, or a site is named twice.
    """
    meta = read_json(job / "meta.json")
    deploy_map = meta.get("deploy_map")
    if not isinstance(deploy_map, dict) or len(deploy_map) != 1:
        raise ConfigError("meta.json: 'deploy_map' must name one app and the sites that run it")
    ((app, participants),) = deploy_map.items()
    sites = [name for name in participants if name != "server"]
    check_site_names(sites)
    return load_config(job / app / "config"), sites


def check_site_names(sites: list[str]) -> None:
    """Check that every site has a name of its own.

    Raises:
        ConfigError: two sites share a name, or there is none.
    """
    if not sites:
        raise ConfigError("the job names no site; list the sites in meta.json's 'deploy_map'")
    for name in sites:
        if sites.count(name) > 1:
            raise ConfigError(f"two sites are named '{name}'; every site needs a name of its own")
