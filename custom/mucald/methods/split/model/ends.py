"""The ends that the sites of a group begin with."""

from mucald import randomness
from mucald.aggregation import State
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.nets import back_end_of, backbone_of
from mucald.tasks import get_task


def first_ends(config: SplitConfig, algorithm: Algorithm, site: str, *secret: str) -> State:
    """Return what a group shares before it has learnt, ``front_end.…``, ``back_end.…``.

    Args:
        config: the job.
        algorithm: tells what is shared.
        site: one of the group.
        secret: decides the weights beside the job's seed.
    """
    with randomness.seeded_initialisation(config.seed, *secret, "front_end"):
        front_end = backbone_of(config.network).front_end()
    with randomness.seeded_initialisation(config.seed, *secret, "back_end"):
        back_end = back_end_of(config.network, get_task(config.site(site).task).n_classes)
    ends = {"front_end": front_end, "back_end": back_end}
    return algorithm.of_group(ends, config.aggregation.statistics)
