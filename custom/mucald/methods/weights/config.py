"""The keys of ``mucald.json`` that sharing weights adds."""

from dataclasses import dataclass
from typing import Any, Literal

from mucald.config.keys import Section, key
from mucald.training.config import WholeModelConfig

Part = Literal["front_end", "middle", "back_end"]


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig(Section):
    """How shared weights are trained and combined."""

    name: str = key("the algorithm", registry="mucald.methods.weights.algorithms.ALGORITHMS")
    args: dict[str, Any] = key("its arguments", {}, registry="mucald.methods.weights.algorithms.ALGORITHMS")


@dataclass(frozen=True, kw_only=True)
class WeightsConfig(WholeModelConfig):
    """Sharing weights: every site trains a whole network, and the server combines what is shared of it."""

    shared: tuple[Part, ...] = key(
        "parts of the network whose weights travel; a back end only between tasks of equally many classes",
        ("front_end", "middle"),
    )
    algorithm: AlgorithmConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shared:
            raise ValueError("shared must name at least one part, or nothing is learnt together")
        if len(set(self.shared)) < len(self.shared):
            raise ValueError("shared names a part twice")

    @property
    def disclosed(self) -> str:
        """What a policy calls the shared weights."""
        if set(self.shared) == {"front_end"}:
            return "front end"
        return "whole network" if "back_end" in self.shared else "encoder"
