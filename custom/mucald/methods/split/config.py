"""The sections of ``mucald.json`` that split learning adds."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mucald.config.common import NetworkConfig, require, require_at_least
from mucald.config.job import JobConfig

PayloadType = Literal["float32", "bfloat16", "int8", "int4"]
Supervision = Literal["sure", "ambient", "epsilon"]
ReleaseMode = Literal["fresh", "once"]


def require_gradient_release(section: Any) -> None:
    """Raise :class:`ValueError` unless ``gradient_clip`` and ``gradient_noise_std`` go together."""
    require(section.gradient_clip is None or section.gradient_clip > 0, "gradient_clip must be positive")
    require_at_least(0, section, "gradient_noise_std")
    require(
        section.gradient_clip is not None or section.gradient_noise_std == 0,
        "gradient_noise_std counts in units of gradient_clip, so give that too",
    )


@dataclass(frozen=True)
class ReleaseConfig:
    """What a site does to latents, proxies and feature gradients before they leave.

    ``mode``: ``fresh`` noises every release anew; ``once`` trains the front end at the site alone for
    ``pretraining_epochs``, freezes it, and releases every image one single time.
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
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AggregationConfig:
    """The rule that turns the sites' copies into the next round's, and its arguments.

    ``statistics``: whether running means and variances of batch normalisation are averaged too.
    """

    rule: str
    args: dict[str, Any] = field(default_factory=dict)
    statistics: bool = False


@dataclass(frozen=True)
class WireConfig:
    """Payload type per tensor that crosses.

    ``pipeline_depth``: of how many steps a site asks for the features before the first gives its gradient.
    """

    latent: PayloadType
    features: PayloadType
    feature_gradient: PayloadType
    latent_gradient: PayloadType
    pipeline_depth: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, self, "pipeline_depth")


@dataclass(frozen=True)
class SplitConfig(JobConfig):
    """A job of the family ``split``.

    Raises:
        ConfigError: on reading, if a key is unknown, missing or of the wrong type.
    """

    network: NetworkConfig
    release: ReleaseConfig
    crdm: CrdmConfig
    daca: DacaConfig
    losses: LossConfig
    optimiser: OptimiserConfig
    algorithm: AlgorithmConfig
    aggregation: AggregationConfig
    wire: WireConfig

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates of the networks, the causal part and the denoisers."""
        return {name: getattr(self.optimiser, name) for name in ("segmentation", "causal", "denoiser")}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.crdm.t_split2 < self.release.timesteps,
            f"crdm.t_split2 must lie in [0, {self.release.timesteps - 1}]",
        )
        require(
            self.crdm.supervision != "ambient" or self.release.t < self.release.timesteps - 1,
            f"supervision ambient adds noise, so release.t must be below {self.release.timesteps - 1}",
        )
        require(
            self.release.mode != "once" or self.crdm.supervision != "epsilon",
            'release.mode "once" hands no noise over, so crdm.supervision must be "sure" or "ambient"',
        )
        require(
            self.release.mode == "once" or self.wire.pipeline_depth == 1,
            f'wire.pipeline_depth above 1 needs release.mode "once"; with "{self.release.mode}" the next '
            "release depends on the gradient that the step has yet to bring, so set it to 1",
        )
