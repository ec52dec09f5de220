"""The keys of ``mucald.json`` that sharing weights adds."""

from dataclasses import dataclass
from typing import Any, Literal

from mucald.config.common import Ramp
from mucald.config.keys import Section, key
from mucald.training.config import WholeModelConfig

Part = Literal["front_end", "middle", "back_end"]

_CALLED = {
    frozenset({"front_end"}): "front end",
    frozenset({"middle"}): "encoder",
    frozenset({"front_end", "middle"}): "encoder",
    frozenset({"front_end", "back_end"}): "front and back end",
}
"""What a policy calls the parts; all others are called a whole network."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig(Section):
    """How shared weights are trained and combined."""

    name: str = key("the algorithm", registry="mucald.methods.weights.algorithms.ALGORITHMS")
    args: dict[str, Any] = key("its arguments", {}, registry="mucald.methods.weights.algorithms.ALGORITHMS")


@dataclass(frozen=True, kw_only=True)
class WeightsConfig(WholeModelConfig):
    """Sharing weights: every site trains a whole network, and the server combines what is shared of it."""

    shared: tuple[Part, ...] = key(
        "parts of the network that all sites share; a back end only between tasks of equally many classes, "
        "unless the algorithm is `fedhca`. "
        "Without any here or in `shared_in_group` every site trains alone",
        ("front_end", "middle"),
    )
    shared_in_group: tuple[Part, ...] = key(
        "parts whose weights travel between the sites of one group alone; who is alone in it keeps its own",
        (),
    )
    algorithm: AlgorithmConfig
    distillation: Ramp = key(
        "what a site's network predicted at the round's start against what it predicts now; 0 leaves it out",
        Ramp(0.0, 0.0, 0.0),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        named = (*self.shared, *self.shared_in_group)
        if len(set(named)) < len(named):
            raise ValueError("shared and shared_in_group name a part twice")

    def parts_of(self, site: str) -> tuple[Part, ...]:
        """Return the parts that a site shares, with all or within its group."""
        return (*self.shared, *(self.shared_in_group if self.group(site) else ()))

    @property
    def disclosed(self) -> str | None:
        """What a policy calls the shared weights; None where every site trains alone."""
        shared = frozenset({*self.shared, *self.shared_in_group})
        return _CALLED.get(shared, "whole network") if shared else None
