"""What sites can train together on embeddings. Each is one file, and one entry of :data:`ALGORITHMS`."""

from mucald.config.schema import parse_named
from mucald.methods.generative.algorithms.base import Algorithm
from mucald.methods.generative.algorithms.centralised import Centralised
from mucald.methods.generative.algorithms.cgan import ConditionalGAN
from mucald.methods.generative.algorithms.cvae import ConditionalVAE
from mucald.methods.generative.algorithms.fedavg import FedAvg
from mucald.methods.generative.algorithms.fedlambda import FedLambda
from mucald.methods.generative.algorithms.fedprox import FedProx
from mucald.methods.generative.algorithms.gaussians import ClassGaussians
from mucald.methods.generative.algorithms.local import Local
from mucald.methods.generative.config import GenerativeAlgorithmConfig

ALGORITHMS: dict[str, type[Algorithm]] = {
    "cvae": ConditionalVAE,
    "cgan": ConditionalGAN,
    "gaussians": ClassGaussians,
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedlambda": FedLambda,
    "local": Local,
    "centralised": Centralised,
}


def make_algorithm(config: GenerativeAlgorithmConfig) -> Algorithm:
    """Return the algorithm that a job asks for.

    Raises:
        ConfigError: its name or an argument is unknown, missing, or of the wrong type or range.
    """
    return parse_named(ALGORITHMS, "algorithm", config.name, config.args, "algorithm.args")
