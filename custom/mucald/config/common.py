"""The sections of ``mucald.json`` that every family of methods has, and what their values must satisfy."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from mucald.config.keys import Section, key, section


def require(condition: bool, message: str) -> None:
    """Raise :class:`ValueError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def require_at_least(minimum: int, section: Any, *names: str) -> None:
    """Raise :class:`ValueError` if a field of ``section`` in ``names`` is below ``minimum``."""
    for name in names:
        wanted = f"be at least {minimum}" if minimum else "not be negative"
        require(getattr(section, name) >= minimum, f"{name} must {wanted}")


@dataclass(frozen=True)
class SiteConfig(Section):
    """One site as the job sees it."""

    task: str = key(
        "decides classes, phantoms, and what the method knows of the task", registry="mucald.tasks.TASKS"
    )
    scanner: str = key(
        "the device that a site's phantoms are taken with",
        "standard",
        registry="mucald.data.images.phantoms.scanner.SCANNERS",
    )
    group: str | None = key(
        "sites of one group share what the job shares within groups; `null` is the group of the task's name",
        None,
        allowed="any name",
    )
    joins_at_round: int = key(
        "how many rounds are over when the site joins; the method `weights` alone takes sites in later",
        0,
        at_least=0,
        allowed="below `training.rounds`",
    )


@dataclass(frozen=True)
class PhantomConfig(Section):
    """How many phantoms a site without data of its own draws."""

    train: int = key("phantoms to train on, for a site without `site.json`", 48, allowed="≥ 1")
    validation: int = key("the same, to choose the best round by", 12, allowed="≥ 1")
    test: int = key("the same, looked at once", 24, allowed="≥ 1")
    class_skew: float | None = key(
        "α of the Dirichlet draw of a site's shares of the classes of embeddings, the smaller the more "
        "unlike; `null` gives all equally many",
        None,
        above=0,
    )


@dataclass(frozen=True)
class VolumePlan(Section):
    """How the volumes of a task are made to fit a network; ``tools/prepare_data.py`` tells a site's own."""

    spacing: tuple[float, ...] = key(
        "size of a voxel that volumes are resampled to, along right, anterior and superior; sites with "
        "volumes of their own need it",
        (),
        allowed="three lengths in mm",
    )
    patch_size: tuple[int, ...] = key(
        "in place of `data.volumes.patch_size`", (), allowed="three numbers of voxels"
    )
    intensity: tuple[float, ...] = key(
        "of CT: least and greatest value that is kept, then the mean that is taken off and the standard "
        "deviation that is divided by; MR is z-scored volume by volume",
        (),
        allowed="four numbers",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, count in (("spacing", 3), ("patch_size", 3), ("intensity", 4)):
            values = getattr(self, name)
            require(len(values) in (0, count), f"{name} must be {count} numbers, not {len(values)}")
        require(all(value > 0 for value in (*self.spacing, *self.patch_size)), "sizes must be positive")
        if self.intensity:
            low, high, _, deviation = self.intensity
            require(low < high and deviation > 0, "intensity must be least < greatest, mean, deviation > 0")


@dataclass(frozen=True)
class VolumeConfig(Section):
    """The volumes of tasks whose samples are some."""

    patch_size: tuple[int, ...] = key(
        "a training step takes patches of this size out of volumes",
        (32, 32, 32),
        allowed="three numbers of voxels, along right, anterior and superior",
    )
    phantom_size: tuple[int, ...] = key(
        "size of phantoms", (48, 48, 32), allowed="three numbers of voxels, each ≥ 16"
    )
    plans: dict[str, VolumePlan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("patch_size", 1), ("phantom_size", 16)):
            values = getattr(self, name)
            require(len(values) == 3 and min(values) >= least, f"{name} must be three numbers ≥ {least}")

    def plan(self, task: str) -> VolumePlan:
        """Return the plan of a task, with its patch size; what the job does not say is empty."""
        plan = self.plans.get(task, VolumePlan())
        return replace(plan, patch_size=plan.patch_size or self.patch_size)

    def sample_size(self, task: str, whole: bool) -> tuple[int, ...]:
        """Return the size of what a network takes at a time: a patch, or a volume that is taken whole."""
        patch = self.plan(task).patch_size
        return patch if task in self.plans or not whole else self.phantom_size


@dataclass(frozen=True)
class DataConfig(Section):
    """The images."""

    image_size: int = key(
        "images are resized to squares of this side", 64, allowed="pixels; a multiple of 2^(levels − 1)"
    )
    phantoms: PhantomConfig = section(PhantomConfig)
    volumes: VolumeConfig = section(VolumeConfig)


@dataclass(frozen=True)
class TrainingConfig(Section):
    """The schedule."""

    rounds: int = key("rounds of the run", 6, at_least=1)
    local_epochs: int = key("passes over a site's training images per round", 2, at_least=1)
    batch_size: int = key("images per step, in training and evaluation", 4, at_least=1)
    augmentation: float = key(
        "odds of every random change of training images, as a share of the task's usual; 0 = none",
        0.0,
        at_least=0,
        at_most=1,
    )
    schedule: Literal["constant", "cosine", "poly"] = key(
        "how the networks' learning rates fall over the run: not; along a half cosine; by a power of 0.9",
        "constant",
    )
    warm_up: float = key(
        "share of the run in which they first rise to their value", 0.0, at_least=0, at_most=1
    )

    @property
    def scheduled(self) -> bool:
        """Whether learning rates change."""
        return self.schedule != "constant" or self.warm_up > 0

    def rate_at(self, epoch: int, epochs: int, step: int, steps: int) -> float:
        """Return :meth:`rate` in the middle of an epoch's ``step`` of ``steps``; all count from 0.

        Epochs may as well be rounds.
        """
        return self.rate((epoch + (step + 0.5) / steps) / epochs)

    def rate(self, done: float) -> float:
        """Return the factor of the learning rates when ``done`` of the run, in (0, 1), is over.

        It depends on nothing else, so it is the same for a run that was resumed, and for a site that missed
        rounds. ``poly`` is that of nnU-Net (Isensee et al., Nature Methods 2021).
        """
        if done < self.warm_up:
            return done / self.warm_up
        left = (1 - done) / (1 - self.warm_up)
        return {"constant": 1.0, "cosine": (1 - math.cos(math.pi * left)) / 2, "poly": left**0.9}[
            self.schedule
        ]


@dataclass(frozen=True)
class Ramp(Section):
    """A loss weight that is 0 for ``warm_up`` of the run, then rises linearly to ``weight`` within ``ramp``.

    Both are fractions of the whole run, so unlike the reference the ramp does not start again every round.
    """

    weight: float = key("final weight; 0 switches the term off, and it is not computed", at_least=0)
    warm_up: float = key("share of the run without the term", at_least=0, at_most=1)
    ramp: float = key("share of the run in which the weight rises", at_least=0, at_most=1)

    def at(self, progress: float) -> float:
        """Return the weight at ``progress`` in [0, 1]."""
        if progress < self.warm_up:
            return 0.0
        return self.weight * (min((progress - self.warm_up) / self.ramp, 1.0) if self.ramp else 1.0)


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig(Section):
    """What leaves a run's numbers as they are, up to the last digits."""

    device: Literal["auto", "cpu", "cuda"] = key(
        "where each process computes; `auto` is a GPU where there is one", "auto"
    )
    threads: int = key("threads of torch per process; the last digits depend on it", 1, at_least=1)
    step_timeout_s: float = key(
        "how long a site waits for the answer to one message; three attempts",
        60.0,
        above=0,
        allowed="seconds",
    )
    task_timeout_s: int = key(
        "how long the server waits for a site's whole round", 0, at_least=0, allowed="seconds, 0 = for ever"
    )
    stall_timeout_s: float = key(
        "a site that has not stepped for so long is left out of the round",
        at_least=0,
        allowed="seconds, 0 = never",
    )
    record: bool = key("the server keeps every message of the run, for the attacks", False)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Section):
    """The network, split in a U: front and back end at the site."""

    backbone: str = key("architecture", registry="mucald.nets.BACKBONES")
    features: tuple[int, ...] = key("channels per level, full resolution first", allowed="two or more widths")
    cut: int = key(
        "encoder levels that stay at the site, with their skips and decoder levels; 0 is the paper's cut",
        allowed="0 … levels − 1; without a server also levels",
    )
    latent_channels: int = key("channels of what crosses; its side is `image_size` / 2^`cut`", at_least=1)
    norm: Literal["instance", "group", "batch"] = key("normalisation in all three segments", "instance")
    task_adaptation: bool = key("the site adapts the features to its task before its back end (FedBone)")
    precision: Literal["float32", "bfloat16"] = key(
        "in what the segments multiply; weights and all that is sent stay float32", "float32"
    )

    parts: ClassVar[tuple[str, ...]] = ("front_end", "middle", "back_end")


@dataclass(frozen=True, kw_only=True)
class AdaptedConfig(Section):
    """The network where `network.backbone` is `dynunet`: an adaptor for the modality's channels, then MONAI's
    DynUNet as encoder and decoder, for images and for volumes."""

    backbone: Literal["dynunet"] = key("architecture")
    features: tuple[int, ...] = key(
        "channels per level, full resolution first", allowed="three or more widths"
    )
    adaptor_channels: int = key("channels that an adaptor makes of the modality's", 32, at_least=1)
    head: Literal["average", "lse"] = key(
        "how a site classifies whose samples have one class: by the encoder's deepest features, averaged, or "
        "by a decoder's logits, pooled by log-sum-exp",
        "average",
    )
    sharpness: float = key("r of log-sum-exp pooling; the larger, the nearer to a maximum", 5.0, above=0)

    parts: ClassVar[tuple[str, ...]] = ("adaptor", "encoder", "decoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.features) >= 3 and min(self.features) >= 1
        require(fits, f"features must name three or more positive widths, not {self.features}")


@dataclass(frozen=True, kw_only=True)
class AdamWConfig(Section):
    """AdamW."""

    learning_rate: float = key("learning rate", 0.001, at_least=0)
    weight_decay: float = key("weight decay", 0.01, at_least=0)
    clip_norm: float = key(
        "bound of the gradient's norm, once over front and back end and once over the middle network",
        1.0,
        above=0,
    )
