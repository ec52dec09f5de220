"""Every site's copy between its own and what all share, as far as its own validation bears it out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from mucald.aggregation.base import BlendFactors, Candidates, Contribution, Rule, State
from mucald.aggregation.registry import make_rule
from mucald.errors import ConfigError

_FACTORS = "factors"
_CHOICES = "choices"


@dataclass(frozen=True)
class Toward:
    """The rule that makes the shared state, and its arguments."""

    rule: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Interpolated(Rule):
    """Every site begins with (1 − α) · its own state + α · the shared one, α chosen by its validation loss.

    α belongs to a site and a block. Which candidates a site may choose from depends on its earlier choices:

    - at its first, and then in turn with the blocks: the same of ``factors`` for all blocks;
    - else one block, each in its turn, at every one of ``factors``, the others where they are;
    - always what it chose last, and with 0 among ``factors`` its own state in all blocks: staying alone.

    So with 0 among ``factors``, what a site begins a round with is never worse on its validation images than
    what it ended the round before with. A site that did not contribute keeps what it started with as its own.

    Args:
        toward: the rule that makes the shared state.
        factors: values of α to choose from, ascending, within 0 (alone) and 1 (shared).
        blocks: for every block the prefixes of its tensors' names, whole components of them; the longest
            prefix decides. A block of which the job has no tensor counts for nothing.
    """

    toward: Toward
    factors: tuple[float, ...]
    blocks: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.factors or list(self.factors) != sorted(set(self.factors)):
            raise ValueError(f"factors must be one or more ascending numbers, not {list(self.factors)}")
        if not 0 <= self.factors[0] <= self.factors[-1] <= 1:
            raise ValueError(f"factors must lie in [0, 1], not {list(self.factors)}")
        if self.toward.rule == "interpolated":
            raise ValueError("toward must name another rule than 'interpolated'")
        prefixes = [prefix for of_block in self.blocks.values() for prefix in of_block]
        if twice := sorted({prefix for prefix in prefixes if prefixes.count(prefix) > 1}):
            raise ValueError(f"blocks name the prefix '{twice[0]}' twice")
        # What a site keeps for itself is for the inner rule to say; a frozen dataclass is set no other way.
        object.__setattr__(self, "private_modules", self.shared_rule.private_modules)
        object.__setattr__(self, "needs_start", self.shared_rule.needs_start)

    @property
    def held_to_choose(self) -> int:
        """A candidate that is evaluated, what the site ended with if none is that, its own shared state."""
        if not self.has_choice:
            return 0
        return 1 + (0.0 not in self.factors) + (not self.shared_rule.one_for_all)

    @property
    def has_choice(self) -> bool:
        """Whether there is more than one factor."""
        return len(self.factors) > 1

    @cached_property
    def shared_rule(self) -> Rule:
        """The rule that makes the shared state."""
        return make_rule(self.toward.rule, self.toward.args, "aggregation.args.toward.args")

    def check(self, names: Sequence[str]) -> None:
        """Check that every tensor belongs to a block."""
        self._blocks_of(names)

    def propose(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, Candidates]:
        """Return the candidates of each site, the nearest to its own state first."""
        shared = self._share(start, contributions, memory)
        own = dict(start) | {c.site: c.state for c in contributions}
        block_of = self._blocks_of(list(contributions[0].state))
        blocks = [block for block in self.blocks if block in block_of.values()]
        for contribution in contributions:
            _remember(memory, contribution, blocks)
        return {
            site: Candidates(own[site], shared[site], self._grid(site, blocks, memory), block_of)
            for site in start
        }

    def _share(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        prefix = "toward."
        inner = {n.removeprefix(prefix): tensor for n, tensor in memory.items() if n.startswith(prefix)}
        shared = self.shared_rule.combine(start, contributions, inner)
        memory.update({f"{prefix}{name}": tensor for name, tensor in inner.items()})
        return shared

    def _blocks_of(self, names: Sequence[str]) -> dict[str, str]:
        """Return the block of each tensor, by name."""
        prefixes = {prefix: block for block, of_block in self.blocks.items() for prefix in of_block}
        found = {}
        for name in names:
            longest = next((prefix for prefix in _ancestors(name) if prefix in prefixes), None)
            if longest is None:
                raise ConfigError(
                    f"'aggregation.args.blocks' has no block for the tensor '{name}'; "
                    f"add '{name.split('.')[0]}' to one"
                )
            found[name] = prefixes[longest]
        return found

    def _grid(self, site: str, blocks: Sequence[str], memory: State) -> list[BlendFactors]:
        """Return the factors that a site may choose from, the nearest to its own state first."""
        last = memory.get(f"{_FACTORS}.{site}")
        choices = memory.get(f"{_CHOICES}.{site}")
        turn = 0 if choices is None else int(choices) % (len(blocks) + 1)
        settings = {
            tuple(
                factor if turn in (0, number) else float(last[number - 1])  # type: ignore[index]
                for number in range(1, len(blocks) + 1)
            )
            for factor in self.factors
        }
        if last is not None:
            settings.add(tuple(last.tolist()))
        if 0.0 in self.factors:
            settings.add((0.0,) * len(blocks))
        nearest_first = sorted(settings, key=lambda setting: (sum(setting), setting))
        return [dict(zip(blocks, setting, strict=True)) for setting in nearest_first]


def _remember(memory: State, contribution: Contribution, blocks: Sequence[str]) -> None:
    """Note what a site chose at the beginning of the round that is over."""
    if not contribution.factors:
        return
    site = contribution.site
    chosen = [contribution.factors[block] for block in blocks]
    memory[f"{_FACTORS}.{site}"] = torch.tensor(chosen, dtype=torch.float64)
    memory[f"{_CHOICES}.{site}"] = memory.get(f"{_CHOICES}.{site}", torch.tensor(0)) + 1


def _ancestors(name: str) -> Iterator[str]:
    """Yield a dotted name and all that it lies in, from the inside."""
    while name:
        yield name
        name = name.rpartition(".")[0]
