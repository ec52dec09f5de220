"""The sections of ``mucald.json`` that every family of methods has, and what their values must satisfy."""

from dataclasses import dataclass
from typing import Any, Literal


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
class SiteConfig:
    """One site as the job sees it: its task."""

    task: str


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
        require_at_least(1, self, "rounds", "local_epochs", "batch_size")


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
class AdamWConfig:
    """AdamW; ``clip_norm`` bounds the gradient of front and back end, and that of the middle network."""

    learning_rate: float
    weight_decay: float
    clip_norm: float

    def __post_init__(self) -> None:
        require_at_least(0, self, "learning_rate", "weight_decay")
        require(self.clip_norm > 0, "clip_norm must be positive")
