"""What a federated algorithm may change of split-federated averaging."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import nn

from mucald.aggregation.base import State, WeightedMean
from mucald.aggregation.parting import Parting
from mucald.errors import ConfigError
from mucald.methods.split.config import SplitConfig

Part = Literal["all", "head", "body"]
"""What an epoch trains: everything, the back end alone, or all but the back end."""

End = Literal["front_end", "back_end"]
"""What of its network a site holds."""


class Algorithm:
    """SplitFed as it is (Thapa et al., AAAI 2022); a subclass overrides what its method does otherwise.

    Subclasses are frozen dataclasses; their fields are their arguments in the job's JSON. "Middle network"
    means the server's copy of it for one site. How copies are averaged is for the aggregation rule to say.
    """

    shares_front_end: ClassVar[bool] = False
    """Whether the sites' front ends are aggregated too, so that the server knows them."""

    in_turn: ClassVar[bool] = False
    """Whether the sites train one after the other, all on one set of the shared networks."""

    @property
    def within(self) -> WeightedMean | None:
        """The rule that weighs the sites of a group; None where there are no groups."""
        return None

    @property
    def seals(self) -> bool:
        """Whether the sites of a group exchange their ends so that the server cannot read them."""
        return False

    @property
    def parted_by(self) -> Parting | None:
        """What decides when sites of a group go on with ends of their own; None if they never do."""
        return None

    @property
    def shared_ends(self) -> tuple[End, ...]:
        """The ends that the sites of a group share."""
        return ()

    def group(self, config: SplitConfig, site: str) -> tuple[str, ...]:
        """Return the sites that share a site's ends, or none if it keeps its own."""
        return ()

    def of_group(self, ends: Mapping[str, nn.Module], statistics: bool) -> State:
        """Return what of a site's ends its group shares, ``front_end.…``, ``back_end.…``; their own tensors.

        Args:
            ends: a front and a back end, by these names.
            statistics: whether floating-point buffers are shared beside the parameters.
        """
        if self.within is None:
            return {}
        return self.within.shareable_parts({end: ends[end] for end in self.shared_ends}, statistics)

    @property
    def n_components(self) -> int:
        """Number of middle networks that the server holds side by side for every site."""
        return 1

    def check(self, config: SplitConfig) -> None:
        """Check that the rest of the job fits the algorithm.

        Raises:
            ConfigError: it does not; the message names the field.
        """
        parts = self.parts(config.training.local_epochs)
        if config.release.mode == "once" and (self.shares_front_end or set(parts) != {"all"}):
            raise ConfigError(
                f"the algorithm '{config.algorithm.name}' trains and shares front ends in every round, but "
                "release.mode 'once' freezes them; take the mode 'fresh' or another algorithm"
            )
        if self.shares_front_end and config.aggregation.rule == "interpolated":
            raise ConfigError(
                f"the algorithm '{config.algorithm.name}' fetches front ends before aggregation.rule "
                "'interpolated' could choose among them; take another rule"
            )

    def parts(self, local_epochs: int) -> tuple[Part, ...]:
        """Return what each of a round's ``local_epochs`` trains."""
        parts: tuple[Part, ...] = ("all",)
        return parts * local_epochs

    def adjust_gradients(
        self, site: str, middle: Mapping[str, nn.Parameter], state: State, scratch: State
    ) -> None:
        """Change the gradients of a site's middle network before they are clipped and applied.

        Sites may be in here at once, so nothing but their own gradients and ``scratch`` may be written.

        Args:
            site: name of the site.
            middle: its middle network's parameters, with gradients.
            state: what the algorithm remembers of the rounds before, which checkpoints hold; not to be
                written.
            scratch: the site's notes of this round, empty when it begins.
        """

    def end_round(self, middles: Mapping[str, State], scratches: Mapping[str, State], state: State) -> None:
        """Bring ``state`` up to date when a round is over, before the copies are aggregated.

        Args:
            middles: every site's middle network, parameters by name.
            scratches: the notes of those sites that finished the round.
            state: to be written in place.
        """
