"""How the server turns the sites' copies of the shared modules into the next round's.

A rule is one file with a frozen dataclass whose fields are its arguments in the job's JSON, and one entry
in :data:`RULES`.
"""

from typing import Any

from mucald.aggregation.base import BlendFactors, Candidates, Contribution, Rule, State, WeightedMean
from mucald.aggregation.by_size import BySize
from mucald.aggregation.causal_invariant import CausalInvariant
from mucald.aggregation.conflict_averse import ConflictAverse
from mucald.aggregation.equal import Equal
from mucald.aggregation.fedbn import FedBN
from mucald.aggregation.fedbone import FedBone
from mucald.aggregation.interpolated import Interpolated
from mucald.aggregation.local import Local
from mucald.config.schema import closest, parse
from mucald.errors import ConfigError

__all__ = [
    "RULES",
    "BlendFactors",
    "Candidates",
    "Contribution",
    "Rule",
    "State",
    "WeightedMean",
    "make_rule",
]

RULES: dict[str, type[Rule]] = {
    "equal": Equal,
    "by_size": BySize,
    "causal_invariant": CausalInvariant,
    "local": Local,
    "conflict_averse": ConflictAverse,
    "interpolated": Interpolated,
    "fedbn": FedBN,
    "fedbone": FedBone,
}


def make_rule(name: str, args: dict[str, Any], path: str = "aggregation.args") -> Rule:
    """Return the aggregation rule ``name`` with the arguments ``args`` from the job's JSON.

    Args:
        name: of :data:`RULES`.
        args: the rule's arguments.
        path: where they stand in the JSON, for error messages.

    Raises:
        ConfigError: the rule or an argument is unknown, missing, or of the wrong type or range.
    """
    if name not in RULES:
        raise ConfigError(f"unknown aggregation rule '{name}'{closest(name, list(RULES))}")
    return parse(RULES[name], args, path)
