"""Federated algorithms: what sites and server do beyond training copies and averaging them.

An algorithm is one file with a frozen dataclass whose fields are its arguments in the job's JSON, and one
entry in :data:`ALGORITHMS`.
"""

from mucald.config.schema import parse_named
from mucald.methods.split.algorithms.base import Algorithm, Part
from mucald.methods.split.algorithms.fedem import FedEM
from mucald.methods.split.algorithms.fedper import FedPer
from mucald.methods.split.algorithms.fedrep import FedRep
from mucald.methods.split.algorithms.groups import Groups
from mucald.methods.split.algorithms.mocha import Mocha
from mucald.methods.split.algorithms.scaffold import Scaffold
from mucald.methods.split.algorithms.splitfed import SplitFed
from mucald.methods.split.algorithms.splitfed_v2 import SplitFedV2
from mucald.methods.split.config import AlgorithmConfig, SplitConfig

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Part",
    "algorithm_of",
    "make_algorithm",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    "splitfed": SplitFed,
    "splitfed_v2": SplitFedV2,
    "fedper": FedPer,
    "fedrep": FedRep,
    "fedem": FedEM,
    "scaffold": Scaffold,
    "mocha": Mocha,
    "groups": Groups,
}


def make_algorithm(config: AlgorithmConfig) -> Algorithm:
    """Return the algorithm that a job asks for.

    Raises:
        ConfigError: its name or an argument is unknown, missing, or of the wrong type or range.
    """
    return parse_named(ALGORITHMS, "algorithm", config.name, config.args, "algorithm.args")


def algorithm_of(config: SplitConfig) -> Algorithm:
    """Return the algorithm that a job asks for, once it is known to fit the rest of the job.

    Raises:
        ConfigError: see :func:`make_algorithm` and :meth:`Algorithm.check`.
    """
    algorithm = make_algorithm(config.algorithm)
    algorithm.check(config)
    return algorithm
