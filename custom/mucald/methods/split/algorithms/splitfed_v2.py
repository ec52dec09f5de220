"""One middle network at the server, on which the sites train in turn."""

from dataclasses import dataclass
from typing import ClassVar

from mucald.errors import ConfigError
from mucald.methods.split.algorithms.base import Algorithm
from mucald.methods.split.config import SplitConfig


@dataclass(frozen=True)
class SplitFedV2(Algorithm):
    """SplitFed V2 (Thapa et al., AAAI 2022): the server's networks are one, and see the sites in turn.

    Every round has an order of its own. A turn is a site's whole round.
    """

    in_turn: ClassVar[bool] = True

    def check(self, config: SplitConfig) -> None:
        """Refuse rules of aggregation, for there is one set of shared networks.

        Raises:
            ConfigError: naming the field.
        """
        super().check(config)
        if config.aggregation.rule != "local":
            raise ConfigError(
                f"'aggregation.rule' must be \"local\" with the algorithm {config.algorithm.name}, not "
                f'"{config.aggregation.rule}": the sites train one set of networks, none is averaged'
            )
