"""The algorithms that share weights. Each is one file, and one entry of :data:`ALGORITHMS`."""

from mucald.config.schema import parse_named
from mucald.methods.weights.algorithms.adaptive import Adaptive
from mucald.methods.weights.algorithms.base import Algorithm
from mucald.methods.weights.algorithms.clustered import Clustered
from mucald.methods.weights.algorithms.ditto import Ditto
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.algorithms.fedbn import FedBN
from mucald.methods.weights.algorithms.fedcmt import FedCMT
from mucald.methods.weights.algorithms.fedhca import FedHCA
from mucald.methods.weights.algorithms.fedopt import FedOpt
from mucald.methods.weights.algorithms.fedprox import FedProx
from mucald.methods.weights.algorithms.fedrep import FedRep
from mucald.methods.weights.config import AlgorithmConfig

ALGORITHMS: dict[str, type[Algorithm]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedopt": FedOpt,
    "fedcmt": FedCMT,
    "fedhca": FedHCA,
    "fedbn": FedBN,
    "fedrep": FedRep,
    "ditto": Ditto,
    "clustered": Clustered,
    "adaptive": Adaptive,
}


def make_algorithm(config: AlgorithmConfig) -> Algorithm:
    """Return the algorithm that a job asks for.

    Raises:
        ConfigError: its name or an argument is unknown, missing, or of the wrong type or range.
    """
    return parse_named(ALGORITHMS, "algorithm", config.name, config.args, "algorithm.args")
