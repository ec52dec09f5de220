"""The sections of ``mucald.json`` that split learning adds."""

from dataclasses import dataclass
from typing import Any, Literal

from mucald.config.common import NetworkConfig, Ramp, require
from mucald.config.job import JobConfig
from mucald.config.keys import Section, key, section

PayloadType = Literal["float32", "bfloat16", "int8", "int4"]
Supervision = Literal["sure", "ambient", "epsilon"]
ReleaseMode = Literal["fresh", "once"]


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig(Section):
    """What a site does to latents, proxies and feature gradients before they leave."""

    mode: ReleaseMode = key(
        "`fresh`: new noise at every release; `once`: the front end is trained at the site alone, frozen, "
        "and every image released one single time"
    )
    pretraining_epochs: int = key(
        "passes over a site's training images before its first release, without the server",
        at_least=0,
        allowed="0 unless `mode` is `once`",
    )
    stand_in: bool = key(
        "a middle network of the site's own stands in for the server meanwhile",
        False,
        allowed="`true` only with `pretraining_epochs`",
    )
    noised: bool = key("`false` sends latents clean; the server's log and `results.json` say so")
    clip: float = key("bound of the standardised latent", 3.0, above=0, allowed="standard deviations")
    timesteps: int = key("levels T of the cosine schedule, at both splits", 400, at_least=2)
    t: int = key("level of every release; the higher, the noisier", allowed="0 … T − 1")
    proxy_noise_std: float = key(
        "noise on the z-scored proxies", 0.5, at_least=0, allowed="standard deviations"
    )
    gradient_clip: float | None = key(
        "bound of every sample's ∂L/∂x̂₂ in L2 norm before it leaves; `null` sends it as it is", above=0
    )
    gradient_noise_std: float = key(
        "Gaussian noise on every number of the clipped ∂L/∂x̂₂",
        at_least=0,
        allowed="in units of `gradient_clip`",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.t < self.timesteps, f"t must lie in [0, {self.timesteps - 1}], not {self.t}")
        require(
            self.mode == "once" or self.pretraining_epochs == 0,
            f'pretraining_epochs is for mode "once", which freezes the front end; with "{self.mode}" it is 0',
        )
        require(
            self.pretraining_epochs > 0 or not self.stand_in,
            "stand_in takes the server's place in pretraining_epochs, so let there be some",
        )
        # The ratio that protects then does not change with the clip.
        require(
            self.gradient_clip is not None or self.gradient_noise_std == 0,
            "gradient_noise_std counts in units of gradient_clip, so give that too",
        )


@dataclass(frozen=True, kw_only=True)
class CrdmConfig(Section):
    """The causal representation and diffusion module, one at each split."""

    encoder: Literal["scm", "plain", "none"] = key(
        "causal part: the task's graph; the same networks without its edges; nothing"
    )
    encoder_width: int = key("channels of the exogenous encoder", allowed="a multiple of 8")
    causal_hidden: int = key("hidden width of each mechanism of the causal model", 128, at_least=1)
    denoiser: bool = key("`false` passes noised latents on as they are")
    denoiser_width: int = key("channels of the denoiser", allowed="a multiple of 8")
    supervision: Supervision = key(
        "what it learns from at split 1; `epsilon` gives the noise, hence the clean latent, to the server",
        "sure",
    )
    t_split2: int = key("level of the server's own noise at split 2", allowed="0 … T − 1")


@dataclass(frozen=True, kw_only=True)
class DacaConfig(Section):
    """Domain adversarial alignment: one discriminator per split, trained between rounds."""

    enabled: bool = key("discriminators and adversarial terms")
    width: int = key("channels of a discriminator's convolution", 128, at_least=1)
    buffer: int = key("feature maps per site and split kept in a round, the latest", 64, at_least=1)
    steps: int = key("batches that each discriminator learns from between rounds", 20, at_least=0)
    batch_per_site: int = key("maps per site in such a batch", 8, at_least=1)
    learning_rate: float = key("Adam, discriminators", 0.001, at_least=0)


@dataclass(frozen=True, kw_only=True)
class LossConfig(Section):
    """Weights of the loss terms (MuCALD-SplitFed, ICIP 2026, training objective)."""

    cross_entropy: float = key("weight of cross-entropy beside Dice, at the site", 0.5, at_least=0)
    proxy: Ramp = key("causal variables against noised proxies", Ramp(0.4, 0.0, 0.3))
    diffusion: Ramp = key("the denoisers' own terms", Ramp(0.4, 0.0, 0.3))
    kl_exogenous: Ramp = key("exogenous variables against N(0, 1)", Ramp(0.0001, 0.0, 0.3))
    kl_causal: Ramp = key("causal variables against their prior given the proxies", Ramp(0.0001, 0.0, 0.3))
    adversarial: Ramp = key("hide the site from the discriminators", Ramp(0.1, 0.1, 0.5))
    proximal: float = key("μ of the proximal term on the middle network", at_least=0)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig(Section):
    """AdamW at both sides; its state is kept across rounds."""

    segmentation: float = key("learning rate of front end, middle network and back end", 0.001, at_least=0)
    causal: float = key("of exogenous encoders, causal models and prior", 0.0005, at_least=0)
    denoiser: float = key("of the denoisers", 0.001, at_least=0)
    weight_decay: float = key("of all of them", 0.01, at_least=0)
    clip_norm: float = key(
        "bound of the gradient's norm, once over the site's networks and once over each module of the "
        "server's copy",
        1.0,
        above=0,
    )


@dataclass(frozen=True)
class AlgorithmConfig(Section):
    """What sites and server do beyond training copies and averaging them."""

    name: str = key("the algorithm", registry="mucald.methods.split.algorithms.ALGORITHMS")
    args: dict[str, Any] = key("its arguments", {}, registry="mucald.methods.split.algorithms.ALGORITHMS")


@dataclass(frozen=True)
class AggregationConfig(Section):
    """How the sites' copies become the next round's."""

    rule: str = key("the rule", registry="mucald.aggregation.RULES")
    args: dict[str, Any] = key("its arguments", {}, registry="mucald.aggregation.RULES")
    statistics: bool = key("running means and variances of `batch` normalisation are averaged too", False)


@dataclass(frozen=True, kw_only=True)
class WireConfig(Section):
    """Payload type per tensor that crosses: ``int8`` has 255 levels and ``int4`` 15, two to a byte."""

    latent: PayloadType = key("x_t, to the server", "int8")
    features: PayloadType = key("x̂₂, to the site")
    feature_gradient: PayloadType = key("∂L/∂x̂₂, to the server")
    latent_gradient: PayloadType = key("∂L/∂x_t, to the site", "bfloat16")
    pipeline_depth: int = key(
        "of how many steps a site asks for the features before the first of them gives its gradient",
        1,
        at_least=1,
        allowed="1 unless `release.mode` is `once`",
    )


@dataclass(frozen=True, kw_only=True)
class HandoverConfig(Section):
    """After the last round every site gets its middle network, fine-tunes all it has, and infers at home."""

    epochs: int = key(
        "passes over a site's training images with the whole network; 0 hands nothing over", 0, at_least=0
    )
    learning_rate: float = key("AdamW, the whole network", 0.0003, at_least=0)


@dataclass(frozen=True, kw_only=True)
class SplitConfig(JobConfig):
    """Split learning: sites hold the first and last layers, the server the rest; each step crosses the wire.

    Raises:
        ConfigError: on reading, if a key is unknown, missing or of the wrong type.
    """

    network: NetworkConfig
    release: ReleaseConfig
    crdm: CrdmConfig
    daca: DacaConfig
    losses: LossConfig
    optimiser: OptimiserConfig = section(OptimiserConfig)
    algorithm: AlgorithmConfig
    aggregation: AggregationConfig
    wire: WireConfig
    handover: HandoverConfig = section(HandoverConfig)

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates of the networks, the causal part and the denoisers."""
        return {name: getattr(self.optimiser, name) for name in ("segmentation", "causal", "denoiser")}

    def __post_init__(self) -> None:
        super().__post_init__()
        cut, levels = self.network.cut, len(self.network.features)
        require(
            cut != levels,
            f"'cut' must lie in 0..{levels - 1}, not {cut}: the server needs 1 or more of the {levels} "
            "levels of 'features'",
        )
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
