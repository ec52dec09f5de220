"""What a site begins with that joins when others have trained, in this run or in an earlier one."""

from collections.abc import Collection, Sequence
from pathlib import Path

from mucald.aggregation.base import weighted_mean
from mucald.config.schema import parse
from mucald.errors import CheckpointError, ConfigError
from mucald.federation.method import Saved, State
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.shared_weights import SharedWeights, shared_between
from mucald.state.checkpoint import CheckpointStore, load_checkpoint, without_prefix


def take_in(shared: Sequence[SharedWeights], joining: Collection[str], known: Collection[str]) -> None:
    """Give sites that join what they share with others, as far as others have learnt it.

    - What sites share that are known is there; where each of them has weights of its own, a newcomer gets
      their mean.
    - The first of a modality get the mean of the other modalities' weights, if these have the same shapes;
      else they begin with first weights.

    Args:
        shared: all that is shared; of those who join it is replaced.
        joining: the sites that join now.
        known: the sites that have trained.
    """
    for weights in shared:
        new = [site for site in weights.weights if site in joining]
        teachers = [site for site in weights.weights if site in known]
        if not new:
            continue
        if teachers:
            states = _each_once([weights.weights[site] for site in teachers])
        else:
            others = [other.weights for other in shared if other.of_modality]
            learnt = [state for other in others for site, state in other.items() if site in known]
            like = shapes(weights.weights[new[0]])
            states = [state for state in _each_once(learnt) if shapes(state) == like]
        if states and not teachers:
            weights.weights = dict.fromkeys(weights.weights, _mean(states))
        elif states:
            weights.weights |= dict.fromkeys(new, states[0] if len(states) == 1 else _mean(states))


def latest_of(run: Path, name: str) -> Saved | None:
    """Return the latest checkpoint ``name`` in the folder of a run; None if there is none."""
    store = CheckpointStore(run)
    rounds = store.rounds(name)
    return load_checkpoint(store.path(rounds[-1], name)) if rounds else None


def begin_with(shared: Sequence[SharedWeights], config: WeightsConfig, run: Path) -> set[str]:
    """Let what sites share begin as an earlier run has left it, and take in the sites that have been added.

    Args:
        shared: all that this job's sites share.
        config: the job.
        run: the server's folder of the earlier run.

    Returns:
        the sites of the earlier run.

    Raises:
        CheckpointError: there is no such run.
        ConfigError: it is of another method, or its sites shared something else.
    """
    saved = latest_of(run, "server")
    if saved is None:
        raise CheckpointError(f"begin_with: {run} holds no complete round")
    content = saved[1]["config"]
    if content["method"] != config.method:
        raise ConfigError(f"begin_with: run {run.name} is one of the method '{content['method']}'")
    earlier = parse(WeightsConfig, content)
    left, known = shared_between(earlier, saved[1]["sites"]), set(saved[1]["sites"])
    for number, weights in enumerate(left):
        weights.load_state(without_prefix(f"method.{number}", saved[0]))
    found = {weights.name: weights.weights for weights in left}
    for weights in shared:
        copies: dict[int, State] = {}
        for site in sorted(known & weights.weights.keys()):
            state = found.get(weights.name, {}).get(site, {})
            if shapes(state) != shapes(weights.weights[site]):
                raise ConfigError(
                    f"begin_with: site '{site}' shared other weights in run {run.name} than '{weights.name}' "
                    "has here; let 'network' and what is shared be those of that run"
                )
            like = weights.weights[site]
            copied = copies.setdefault(id(state), {n: state[n].to(t.device) for n, t in like.items()})
            # Sites that share all have the same object.
            weights.weights[site] = copied
    take_in(shared, set(config.sites) - known, known)
    return known


def shapes(state: State) -> dict[str, tuple[int, ...]]:
    """Return the tensors' shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _mean(states: Sequence[State]) -> State:
    """Return the mean in tensors of its own, for a checkpoint holds none twice."""
    return weighted_mean(states, [1 / len(states)] * len(states))


def _each_once(states: Sequence[State]) -> list[State]:
    return list({id(state): state for state in states}.values())
