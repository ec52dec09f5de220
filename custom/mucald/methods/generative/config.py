"""The keys of ``mucald.json`` that sharing synthetic embeddings adds."""

from dataclasses import dataclass
from typing import Any, Literal

from mucald.config.job import JobConfig
from mucald.config.keys import Section, key, section
from mucald.privacy.dp.budget import Guarantee


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(Section):
    """What of an embedding is trained on."""

    backbone: str = key("the network whose embeddings every site must have", "random-features")
    weights: str | None = key("SHA-256 of its weights, or how it begins", None, allowed="hexadecimal digits")
    dimension: int = key(
        "numbers that a public random projection leaves of an embedding; the noise grows with them",
        32,
        at_least=1,
    )


@dataclass(frozen=True, kw_only=True)
class GenerativeAlgorithmConfig(Section):
    """What is trained together."""

    name: str = key("the algorithm", registry="mucald.methods.generative.algorithms.ALGORITHMS")
    args: dict[str, Any] = key(
        "its arguments", {}, registry="mucald.methods.generative.algorithms.ALGORITHMS"
    )


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig(Section):
    """Differential privacy of what leaves: of one image more or less (add or remove), over the whole run."""

    epsilon: float | None = key("ε of the whole job; `null` trains without noise", 1.0, above=0)
    delta: float = key("δ", 1e-4, above=0, allowed="below 1")
    clip: float = key("bound of the norm of an image's gradient", 0.05, above=0)

    @property
    def guarantee(self) -> Guarantee | None:
        """ε and δ of the job; None without noise."""
        return None if self.epsilon is None else Guarantee(self.epsilon, self.delta)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig(Section):
    """The optimiser of what is trained together; its moments stay at the site from round to round."""

    name: Literal["adam", "sgd"] = key("Adam, or gradient descent with momentum", "adam")
    learning_rate: float = key("learning rate", 0.05, above=0)
    momentum: float = key("of gradient descent, and Adam's first", 0.9, at_least=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class DownstreamConfig(Section):
    """The classifiers that every site trains for itself, on its own and on synthetic embeddings."""

    hidden: tuple[int, ...] = key("widths of the layers between; none for a linear classifier", ())
    epochs: int = key("steps over all samples", 200, at_least=1)
    learning_rate: float = key("learning rate of Adam", 0.01, above=0)
    weight_decay: float = key("weight decay", 0.005, at_least=0)
    per_class: int = key("synthetic embeddings of each class", 100, at_least=1)


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig(JobConfig):
    """Sharing synthetic embeddings: sites train a generator together, and classifiers on what it draws.

    With noise a local epoch is one step over all images of a site; without, its shuffled mini-batches once.
    """

    features: FeaturesConfig = section(FeaturesConfig)
    algorithm: GenerativeAlgorithmConfig
    privacy: PrivacyConfig = section(PrivacyConfig)
    optimiser: OptimiserConfig = section(OptimiserConfig)
    downstream: DownstreamConfig = section(DownstreamConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.runtime.record:
            raise ValueError("runtime.record keeps messages of steps, and this method has none")
        if self.privacy.delta >= 1:
            raise ValueError(f"privacy.delta must be below 1, not {self.privacy.delta:g}")
        if self.training.augmentation:
            raise ValueError("training.augmentation changes images, and embeddings are none")

    def learning_rates(self) -> dict[str, float]:
        """Return the one learning rate."""
        return {"shared": self.optimiser.learning_rate}
