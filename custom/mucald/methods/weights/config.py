"""The keys of ``mucald.json`` that sharing weights adds."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mucald.config.common import Ramp
from mucald.config.keys import Section, key
from mucald.tasks import get_task
from mucald.training.config import WholeModelConfig

Part = Literal["front_end", "middle", "back_end", "adaptor", "encoder", "decoder"]

_CALLED = {
    frozenset({"front_end"}): "front end",
    frozenset({"middle"}): "encoder",
    frozenset({"front_end", "middle"}): "encoder",
    frozenset({"front_end", "back_end"}): "front and back end",
    frozenset({"adaptor"}): "encoder",
    frozenset({"encoder"}): "encoder",
    frozenset({"adaptor", "encoder"}): "encoder",
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
        "parts of the network that all sites share: of `front_end`, `middle`, `back_end`, or of `adaptor`, "
        "`encoder`, `decoder` of a `dynunet`; a back end or decoder only between tasks of equally many "
        "classes, unless the algorithm is `fedhca`. Without any here or in the two keys below every site "
        "trains alone",
        ("front_end", "middle"),
    )
    shared_in_group: tuple[Part, ...] = key(
        "parts whose weights travel between the sites of one group alone; who is alone in it keeps its own",
        (),
    )
    shared_in_modality: tuple[Part, ...] = key(
        "parts that the sites of one modality share, by the mean of their changes whatever the algorithm; "
        "who is alone in it shares them with sites that join later",
        (),
    )
    algorithm: AlgorithmConfig
    begin_with: str | None = key(
        "an earlier run, whose shared weights this one begins with, and each of its sites with the network "
        "that it had; other sites may have been added",
        None,
        allowed="a run's name",
    )
    cross_site: bool = key(
        "sites of one task test each other's networks after the last round; then whole networks leave",
        False,
    )
    distillation: Ramp = key(
        "what a site's network predicted at the round's start against what it predicts now; 0 leaves it out",
        Ramp(0.0, 0.0, 0.0),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        named = (*self.shared, *self.shared_in_group, *self.shared_in_modality)
        if len(set(named)) < len(named):
            raise ValueError("shared, shared_in_group and shared_in_modality name a part twice")
        if self.begin_with is not None and not re.fullmatch(r"\w[\w.-]*", self.begin_with):
            raise ValueError("begin_with must be the name of a run, as printed when it began")
        if unknown := [name for name in named if name not in self.parts]:
            raise ValueError(
                f"the backbone '{self.network.backbone}' has no part '{unknown[0]}' to share; its parts are "
                f"{', '.join(self.parts)}"
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a site's network, in the order in which a sample passes them."""
        return self.network.parts

    def parts_of(self, site: str) -> tuple[Part, ...]:
        """Return the parts that a site shares, with all or within its group or its modality."""
        in_group = self.shared_in_group if self.group(site) else ()
        return (*self.shared, *in_group, *self.shared_in_modality)

    def peers(self, site: str) -> tuple[str, ...]:
        """Return the other sites that test a site's network: those of its task, if the job wants it."""
        task = self.site(site).task
        others = [name for name, other in self.sites.items() if other.task == task and name != site]
        return tuple(sorted(others)) if self.cross_site else ()

    def held(self, site: str, added: bool) -> tuple[Part, ...]:
        """Return the parts that a site which joins later leaves as they are in its first round.

        Others have learnt them before it, and its own part, which has learnt nothing, would only undo that.
        Where it has no part of its own it holds none.

        Args:
            site: its name.
            added: whether the job begins with an earlier run in which the site was not.
        """
        held = self.parts_of(site) if added else self._learnt_before(site)
        return held if set(held) < set(self.parts) else ()

    def _learnt_before(self, site: str) -> tuple[Part, ...]:
        """Return the parts that a site shares with some that joined before it."""
        begins = self.site(site).joins_at_round

        def has_earlier(sites: Iterable[str]) -> bool:
            return any(self.site(other).joins_at_round < begins for other in sites)

        modality = next(members for members in self.modalities(list(self.sites)).values() if site in members)
        return (
            *(self.shared if has_earlier(self.sites) else ()),
            *(self.shared_in_group if has_earlier(self.group(site)) else ()),
            *(self.shared_in_modality if has_earlier(modality) else ()),
        )

    def modalities(self, sites: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the sites of each modality, in order of name; images without one are one modality."""
        found: dict[str, list[str]] = {}
        for site in sorted(sites):
            found.setdefault(get_task(self.site(site).task).modality or "image", []).append(site)
        return {name: tuple(found[name]) for name in sorted(found)}

    @property
    def disclosed(self) -> str | None:
        """What a policy calls the shared weights; None where every site trains alone."""
        shared = frozenset[Part]({*self.shared, *self.shared_in_group, *self.shared_in_modality})
        if any(map(self.peers, self.sites)):
            return "whole network"
        return _CALLED.get(shared, "whole network") if shared else None
