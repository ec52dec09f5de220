"""A network for unlike modalities and tasks: a modality's adaptor, a common encoder, a task's decoder."""

from collections.abc import Mapping

from torch import Tensor, nn

from mucald.config.common import AdaptedConfig, DataConfig
from mucald.errors import ConfigError
from mucald.nets.dynunet import CONVOLUTIONS, NORMS, STRIDE, Decoder, Encoder, Features
from mucald.nets.pooling import average, log_mean_exp
from mucald.tasks import Task

MIN_LEVELS = 3


class Adaptor(nn.Sequential):
    """Maps a modality's channels to common features: a 1-wide convolution and instance normalisation.

    Args:
        dims: spatial axes, 2 or 3.
        channels: of the modality.
        features: what goes.
    """

    def __init__(self, dims: int, channels: int, features: int):
        # The normalisation takes off whatever a bias would add.
        super().__init__(
            CONVOLUTIONS[dims](channels, features, 1, bias=False), NORMS[dims](features, affine=False)
        )


class AverageHead(nn.Module):
    """Classifies by the encoder's deepest features: global average pooling and a linear layer.

    The layer comes before the pooling, which gives the same.

    Args:
        dims: spatial axes, 2 or 3.
        deepest: channels of the deepest level.
        n_classes: classes C.
    """

    def __init__(self, dims: int, deepest: int, n_classes: int):
        super().__init__()
        self.classify = CONVOLUTIONS[dims](deepest, n_classes, 1)

    def forward(self, features: Features) -> Tensor:
        """Return a map (B, C, …) of logits at the resolution of the deepest level."""
        return self.classify(features[0])


class AdaptedNetwork(nn.Module):
    """Adaptor, encoder and decoder as one network.

    Args:
        adaptor, encoder, decoder: the parts.
        classifies: whether a sample has one class.
        sharpness: of the pooling that tells it (:func:`.log_mean_exp`); None for the mean.
    """

    def __init__(
        self,
        adaptor: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        classifies: bool,
        sharpness: float | None,
    ):
        super().__init__()
        self.adaptor, self.encoder, self.decoder = adaptor, encoder, decoder
        self._classifies, self._sharpness = classifies, sharpness

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts by name."""
        return {"adaptor": self.adaptor, "encoder": self.encoder, "decoder": self.decoder}

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, C, …), or (B, C) where a sample has one class, for inputs (B, channels, …)."""
        logits = self.decoder(self.encoder(self.adaptor(inputs)))
        if not self._classifies:
            return logits
        return average(logits) if self._sharpness is None else log_mean_exp(logits, self._sharpness)


class AdaptedPlan:
    """The plan of an :class:`AdaptedNetwork`, see :class:`mucald.nets.whole.WholePlan`.

    Args:
        config: what the job asks for.
    """

    parts = AdaptedConfig.parts
    common, private = "encoder", "decoder"
    bounded: tuple[tuple[str, ...], ...] = (AdaptedConfig.parts,)

    def __init__(self, config: AdaptedConfig):
        self._config = config

    def kind(self, part: str, task: Task) -> tuple[int | str, ...]:
        """Return in what the part of one task differs from that of another."""
        if part == "encoder":
            return (_dims(task),)
        return (_dims(task), task.channels if part == "adaptor" else task.n_classes)

    def part(self, name: str, task: Task) -> nn.Module:
        """Build a part."""
        dims, config = _dims(task), self._config
        if name == "adaptor":
            return Adaptor(dims, task.channels, config.adaptor_channels)
        if name == "encoder":
            return Encoder(dims, config.adaptor_channels, config.features)
        if task.target == "class" and config.head == "average":
            return AverageHead(dims, config.features[-1], task.n_classes)
        return Decoder(dims, config.features, task.n_classes)

    def whole(self, parts: Mapping[str, nn.Module], task: Task) -> AdaptedNetwork:
        """Join the parts."""
        sharpness = self._config.sharpness if self._config.head == "lse" else None
        return AdaptedNetwork(**parts, classifies=task.target == "class", sharpness=sharpness)

    def check(self, data: DataConfig, task: Task) -> None:
        """Check that a task's samples can be halved down to the deepest level.

        Raises:
            ConfigError: they cannot.
        """
        step = STRIDE ** (len(self._config.features) - 1)
        volume = task.input == "volume"
        sides = data.volumes.sample_size(task.name, task.target == "class") if volume else (data.image_size,)
        # A deepest level of a single voxel would be normalised to nothing.
        if any(side % step for side in sides) or max(sides) < 2 * step:
            what = "'data.volumes.patch_size'" if volume else "'data.image_size'"
            raise ConfigError(
                f"{what} must be multiples of {step}, one of them at least {2 * step}, for "
                f"{len(self._config.features)} levels of 'network.features', not {list(sides)} (task "
                f"'{task.name}')"
            )


def _dims(task: Task) -> int:
    return 3 if task.input == "volume" else 2
