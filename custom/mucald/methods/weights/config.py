"""The keys of ``mucald.json`` that sharing weights adds."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mucald.config.common import require
from mucald.training.config import WholeModelConfig

Part = Literal["front_end", "middle", "back_end"]


@dataclass(frozen=True)
class AlgorithmConfig:
    """How shared weights are trained and combined: a name of :data:`.ALGORITHMS`, and its arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightsConfig(WholeModelConfig):
    """A job of the family ``weights``.

    ``shared``: the parts of the network whose weights travel; a site keeps the others for itself. A back end
    can be shared by sites with equally many classes alone.
    """

    shared: tuple[Part, ...]
    algorithm: AlgorithmConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.shared) > 0, "shared must name at least one part, or nothing is learnt together")
        require(len(set(self.shared)) == len(self.shared), "shared names a part twice")

    @property
    def disclosed(self) -> str:
        """What a policy calls the shared weights."""
        if set(self.shared) == {"front_end"}:
            return "front end"
        return "whole network" if "back_end" in self.shared else "encoder"
