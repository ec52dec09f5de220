"""The sections of ``mucald.json``, one frozen dataclass each, and what their values must satisfy."""

from dataclasses import dataclass
from typing import Any, Literal

PayloadType = Literal["float32", "bfloat16", "int8", "int4"]
Supervision = Literal["sure", "ambient", "epsilon"]
ReleaseMode = Literal["fresh", "once", "memoised"]


def require(condition: bool, message: str) -> None:
    """Raise :class:`ValueError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def require_at_least(minimum: int, section: Any, *names: str) -> None:
    """Raise :class:`ValueError` if a field of ``section`` in ``names`` is below ``minimum``."""
    for name in names:
        wanted = f"be at least {minimum}" if minimum else "not be negative"
        require(getattr(section, name) >= minimum, f"{name} must {wanted}")


def require_gradient_release(section: Any) -> None:
    """Raise :class:`ValueError` unless ``gradient_clip`` and ``gradient_noise_std`` go together."""
    require(section.gradient_clip is None or section.gradient_clip > 0, "gradient_clip must be positive")
    require_at_least(0, section, "gradient_noise_std")
    require(
        section.gradient_clip is not None or section.gradient_noise_std == 0,
        "gradient_noise_std counts in units of gradient_clip, so give that too",
    )


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
    """The schedule: ``rounds`` of ``local_epochs`` at every site.

    ``pipeline_depth``: of how many steps a site asks for the features before the first gives its gradient.
    """

    rounds: int
    local_epochs: int
    batch_size: int
    pipeline_depth: int

    def __post_init__(self) -> None:
        require_at_least(1, self, "rounds", "local_epochs", "batch_size", "pipeline_depth")


@dataclass(frozen=True)
class NetworkConfig:
    """The split network; ``cut`` encoder levels and their skips stay at the site (0: the paper's cut).

    ``task_adaptation``: whether the site adapts the features to its task before its back end (FedBone).
    ``precision``: in what the segments multiply; weights and all that goes in and out are float32.
    """

    backbone: str
    features: tuple[int, ...]
    cut: int
    latent_channels: int
    norm: Literal["instance", "group", "batch"]
    task_adaptation: bool
    precision: Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ReleaseConfig:
    """What a site does to latents, proxies and feature gradients before they leave.

    ``mode``: ``fresh`` noises every release anew; ``once`` trains the front end at the site alone for
    ``pretraining_epochs``, freezes it, and releases every image one single time; ``memoised`` repeats each
    sample's noise on a latent that moves, which shows why that protects nothing.
    ``stand_in``: whether a middle network of the site's own stands in for the server meanwhile.
    ``gradient_noise_std`` counts in units of ``gradient_clip``, so the ratio that protects does not change
    with the clip.
    """

    mode: ReleaseMode
    pretraining_epochs: int
    stand_in: bool
    noised: bool
    clip: float
    timesteps: int
    t: int
    proxy_noise_std: float
    gradient_clip: float | None
    gradient_noise_std: float

    def __post_init__(self) -> None:
        require(0 <= self.t < self.timesteps, f"t must lie in [0, {self.timesteps - 1}], not {self.t}")
        require(self.clip > 0, "clip must be positive")
        require_at_least(0, self, "pretraining_epochs", "proxy_noise_std")
        require(
            self.mode == "once" or self.pretraining_epochs == 0,
            f'pretraining_epochs is for mode "once", which freezes the front end; with "{self.mode}" it is 0',
        )
        require(
            self.pretraining_epochs > 0 or not self.stand_in,
            "stand_in takes the server's place in pretraining_epochs, so let there be some",
        )
        require_gradient_release(self)


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
    supervision: Supervision
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
        require_at_least(1, self, "width", "buffer", "batch_per_site")
        require_at_least(0, self, "steps", "learning_rate")


@dataclass(frozen=True)
class Ramp:
    """A loss weight that is 0 for ``warm_up`` of the run, then rises linearly to ``weight`` within ``ramp``.

    Both are fractions of the whole run, so unlike the reference the ramp does not start again every round.
    """

    weight: float
    warm_up: float
    ramp: float

    def __post_init__(self) -> None:
        require_at_least(0, self, "weight")
        require(0 <= self.warm_up <= 1 and 0 <= self.ramp <= 1, "warm_up and ramp are fractions of the run")

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
        require_at_least(0, self, "cross_entropy", "proximal")


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW and its learning rates: front end, middle and back end; encoder, SCM and prior; denoisers."""

    segmentation: float
    causal: float
    denoiser: float
    weight_decay: float
    clip_norm: float

    def __post_init__(self) -> None:
        require_at_least(0, self, "segmentation", "causal", "denoiser", "weight_decay")
        require(self.clip_norm > 0, "clip_norm must be positive")


@dataclass(frozen=True)
class AlgorithmConfig:
    """What is done beyond split-federated averaging: a name and its arguments."""

    name: str
    args: dict[str, Any]


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
    """Threads per process; seconds to wait for a step's reply, and for a site's whole task (0: for ever).

    ``device``: where each process computes; ``auto`` is a GPU where there is one.
    ``stall_timeout_s``: after how many seconds without a step a site is left out of the round (0: never).
    ``record``: whether the server keeps every message of the run for the attacks.
    """

    device: Literal["auto", "cpu", "cuda"]
    threads: int
    step_timeout_s: float
    task_timeout_s: int
    stall_timeout_s: float
    record: bool

    def __post_init__(self) -> None:
        require_at_least(1, self, "threads")
        require(self.step_timeout_s > 0, "step_timeout_s must be positive")
        require_at_least(0, self, "task_timeout_s", "stall_timeout_s")
