"""What a job of this family lets leave a site."""

from dataclasses import replace

from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.config import GenerativeConfig
from mucald.privacy.disclosure import SCORES, Disclosure, private_weights, weights

POOLED = "pooled"
"""Who trains where one participant holds the data of all sites."""

_OFTEN = "in every round"


def steps_of(config: GenerativeConfig) -> int:
    """Return the noised sums over a site's images in a whole run."""
    if make_algorithm(config.algorithm).once:
        return 1
    return config.training.rounds * config.training.local_epochs


def disclosures(config: GenerativeConfig, images_per_case: int = 1) -> list[Disclosure]:
    """Return scores, and what is trained together."""
    algorithm = make_algorithm(config.algorithm)
    if algorithm.pooled:
        moved = f"The embeddings of all sites lie at '{POOLED}', where they came before the run."
        return [replace(SCORES, meaning=(*SCORES.meaning, moved))]
    if algorithm.part is None:
        return [SCORES]
    often = "once" if algorithm.once else _OFTEN
    guarantee = config.privacy.guarantee
    if guarantee is None:
        return [_told(*SCORES.meaning), weights(algorithm.part, often)]
    part = f"{algorithm.part} under DP"
    return [_told(_BESIDE), private_weights(part, often, guarantee, steps_of(config), images_per_case)]


def _told(*meaning: str) -> Disclosure:
    """Return the disclosure of reports by sites that train together."""
    return replace(SCORES, meaning=(*meaning, _ORIGIN))


_BESIDE = (
    "Losses in training leave with the noise of the weights, within the same ε. Scores of validation and "
    "test, numbers of images and times leave as they are, and no ε covers them."
)
_ORIGIN = (
    "A hash of how the embeddings were made (network, weights, preprocessing, dimension) leaves as it is; it "
    "tells nothing of an image."
)
