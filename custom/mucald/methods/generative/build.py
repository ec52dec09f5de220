"""What server and sites build alike: the networks with their first weights."""

from mucald import randomness
from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.algorithms.base import Learner
from mucald.methods.generative.config import GenerativeConfig
from mucald.tasks import get_task


def build_learner(config: GenerativeConfig, task: str) -> Learner | None:
    """Return what a site of the job trains, as the first round begins with it; the seed decides it.

    Args:
        config: the job.
        task: name of the sites' task.
    """
    algorithm, n_classes = make_algorithm(config.algorithm), get_task(task).n_classes
    with randomness.seeded_initialisation(config.seed, "generative"):
        return algorithm.learner(
            config.features.dimension, n_classes, config.downstream.hidden, config.optimiser
        )
