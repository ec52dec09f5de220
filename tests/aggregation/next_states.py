"""What a rule gives the sites to begin with, where it leaves them no choice."""

from collections.abc import Mapping, Sequence

from mucald.aggregation import Contribution, Rule, State


def next_states(
    rule: Rule, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State | None = None
) -> dict[str, State]:
    """Return the state of each site; of several candidates the first."""
    found = rule.candidates(start, contributions, {} if memory is None else memory)
    return {site: candidates.state(0) for site, candidates in found.items()}
