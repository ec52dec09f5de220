"""How the server turns the sites' copies of the shared modules into the next round's.

A rule is one file with a frozen dataclass whose fields are its arguments in the job's JSON, and one entry
in :data:`RULES`.
"""

from mucald.aggregation.base import BlendFactors, Candidates, Contribution, Rule, State, WeightedMean
from mucald.aggregation.by_size import BySize
from mucald.aggregation.causal_invariant import CausalInvariant
from mucald.aggregation.conflict_averse import ConflictAverse
from mucald.aggregation.equal import Equal
from mucald.aggregation.fedbn import FedBN
from mucald.aggregation.fedbone import FedBone
from mucald.aggregation.interpolated import Interpolated
from mucald.aggregation.local import Local
from mucald.aggregation.registry import RULES, make_rule

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

RULES |= {
    "equal": Equal,
    "by_size": BySize,
    "causal_invariant": CausalInvariant,
    "local": Local,
    "conflict_averse": ConflictAverse,
    "interpolated": Interpolated,
    "fedbn": FedBN,
    "fedbone": FedBone,
}
