"""Networks that one party holds whole, as plans of their parts, whatever the architecture."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from mucald.config.common import AdaptedConfig, DataConfig, NetworkConfig
from mucald.errors import ConfigError
from mucald.nets import back_end_of, backbone_of
from mucald.nets.adapted import AdaptedNetwork, AdaptedPlan
from mucald.nets.latent import bounded
from mucald.tasks import Task


class WholeNetwork(nn.Module):
    """The function that a split network computes without noise: the latent is bounded in between.

    Args:
        front_end, middle, back_end: the parts.
        clip: bound of the standardised latent.
    """

    def __init__(self, front_end: nn.Module, middle: nn.Module, back_end: nn.Module, clip: float):
        super().__init__()
        self.front_end, self.middle, self.back_end, self._clip = front_end, middle, back_end, clip

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts by name."""
        return {name: self.get_submodule(name) for name in NetworkConfig.parts}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C, S, S) for images (B, 3, S, S) in [0, 1]."""
        latent, skips = self.front_end(images)
        return self.back_end(self.middle(bounded(latent, self._clip)), skips)


Network = WholeNetwork | AdaptedNetwork


class WholePlan(Protocol):
    """How a network is made of parts. It builds each on its own, since sites may share it with others.

    Attributes:
        parts: their names, in the order in which a sample passes them.
        common: the part whose first weights are the same everywhere.
        private: the part that a task has for itself.
        bounded: parts whose gradients have one bound together.
    """

    parts: tuple[str, ...]
    common: str
    private: str
    bounded: tuple[tuple[str, ...], ...]

    def kind(self, part: str, task: Task) -> tuple[int | str, ...]:
        """Return in what the part of one task differs from that of another; equal ones can be shared."""

    def part(self, name: str, task: Task) -> nn.Module:
        """Build a part for a task."""

    def whole(self, parts: Mapping[str, nn.Module], task: Task) -> Network:
        """Join parts, by name, to the network of a task."""

    def check(self, data: DataConfig, task: Task) -> None:
        """Raise :class:`ConfigError` unless the network can take the samples of a task."""


class SplitInOne:
    """The plan of a :class:`WholeNetwork`: a split network that one party holds, see :class:`WholePlan`.

    Args:
        config: what the job asks for.
        clip: bound of the standardised latent.
    """

    parts = NetworkConfig.parts
    common, private = "middle", "back_end"
    # As in a split job: the site's networks have one bound, the server's has its own.
    bounded: tuple[tuple[str, ...], ...] = (("front_end", "back_end"), ("middle",))

    def __init__(self, config: NetworkConfig, clip: float):
        self._config, self._clip, self._backbone = config, clip, backbone_of(config)

    def kind(self, part: str, task: Task) -> tuple[int | str, ...]:
        """Return the number of classes of a back end; all else is alike."""
        return (task.n_classes,) if part == self.private else ()

    def part(self, name: str, task: Task) -> nn.Module:
        """Build a part."""
        if name == "back_end":
            return back_end_of(self._config, task.n_classes)
        return self._backbone.front_end() if name == "front_end" else self._backbone.middle()

    def whole(self, parts: Mapping[str, nn.Module], task: Task) -> WholeNetwork:  # noqa: ARG002
        """Join the parts."""
        return WholeNetwork(**parts, clip=self._clip)

    def check(self, data: DataConfig, task: Task) -> None:
        """Check that the samples are images of a side that the backbone takes."""
        if task.input != "image":
            raise ConfigError(
                f"the backbone '{self._config.backbone}' takes images, but task '{task.name}' has samples of "
                f"the kind {task.input}; for volumes 'network.backbone' is 'dynunet'"
            )
        self._backbone.check_image_size(data.image_size)


def whole_plan(network: NetworkConfig | AdaptedConfig, clip: float) -> WholePlan:
    """Return the plan of the network that a job asks for.

    Raises:
        ConfigError: see :func:`mucald.nets.build_backbone`.
    """
    return AdaptedPlan(network) if isinstance(network, AdaptedConfig) else SplitInOne(network, clip)


def trained_network(plan: WholePlan, task: Task, weights: dict[str, Tensor]) -> Network:
    """Return the network of a task with ``weights``, in evaluation mode."""
    whole = plan.whole({name: plan.part(name, task) for name in plan.parts}, task)
    whole.load_state_dict(weights)
    return whole.eval().requires_grad_(False)
