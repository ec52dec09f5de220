"""What a site begins with that joins when others have trained for some rounds."""

from collections.abc import Sequence

from mucald.aggregation.base import weighted_mean
from mucald.federation.method import State
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.shared_weights import SharedWeights


def take_in(shared: Sequence[SharedWeights], config: WeightsConfig, round_number: int) -> None:
    """Give the sites that join in a round what they share with others, as far as others have learnt it.

    - What sites share that joined before is there already; where each of them has weights of its own, a
      newcomer gets their mean.
    - The first of a modality get the mean of the other modalities' weights, if these have the same shapes;
      else they begin with first weights.

    Args:
        shared: all that is shared; of those who join it is replaced.
        config: the job.
        round_number: how many rounds are over.
    """
    for weights in shared:
        joining = [site for site in weights.weights if config.site(site).joins_at_round == round_number]
        known = config.joined(weights.weights, round_number - 1)
        if not joining:
            continue
        if known:
            states = list({id(state): state for state in (weights.weights[site] for site in known)}.values())
        else:
            like = weights.weights[joining[0]]
            states = [
                state
                for other in shared
                for site in config.joined(other.weights, round_number - 1)[:1]
                if other.of_modality and _shapes(state := other.weights[site]) == _shapes(like)
            ]
        if states:
            mean = states[0] if len(states) == 1 else weighted_mean(states, [1 / len(states)] * len(states))
            together = joining if known else list(weights.weights)
            weights.weights |= dict.fromkeys(together, mean)


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
