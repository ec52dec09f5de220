"""Weights by the part of the network that they are of: tensors are named ``<part>.<name>``."""

from collections.abc import Mapping, Sequence

import torch

from mucald.aggregation.base import State
from mucald.state.checkpoint import with_prefix, without_prefix


def parts_in(state: State) -> list[str]:
    """Return the parts of a network of which there are tensors, in their order."""
    return list(dict.fromkeys(name.partition(".")[0] for name in state))


def of_part(tensors: State, part: str) -> State:
    """Return the tensors of a part, by the same names."""
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] == part}


def put_together(pieces: Mapping[str, Sequence[State]]) -> dict[str, State]:
    """Return each site's weights of their pieces, one object for sites that have all pieces in common."""
    found: dict[tuple[int, ...], State] = {}
    for own in pieces.values():
        key = tuple(map(id, own))
        found.setdefault(key, {name: tensor for piece in own for name, tensor in piece.items()})
    return {site: found[tuple(map(id, own))] for site, own in pieces.items()}


def clusters(states: Mapping[str, State]) -> list[tuple[tuple[str, ...], State]]:
    """Return who has the same weights, which are one object, in order of name, and these weights."""
    found: dict[int, tuple[list[str], State]] = {}
    for site, state in states.items():
        found.setdefault(id(state), ([], state))[0].append(site)
    return [(tuple(sites), state) for sites, state in found.values()]


def clusters_to_tensors(states: Mapping[str, State]) -> State:
    """Return what a checkpoint holds of the sites' weights: those of a cluster once."""
    found = clusters(states)
    place = {site: number for number, (members, _) in enumerate(found) for site in members}
    tensors = {"clusters": torch.tensor([place[site] for site in states])}
    for number, (_, state) in enumerate(found):
        # Copies: what clusters still have in common are the same tensors, which a file cannot hold twice.
        state = {name: tensor.clone() for name, tensor in state.items()} if number else state
        tensors |= with_prefix(f"weights.{number}", state)
    return tensors


def clusters_from_tensors(states: Mapping[str, State], tensors: State) -> dict[str, State]:
    """Return the sites' weights that :func:`clusters_to_tensors` was given.

    Args:
        states: weights of the same sites and names, on the device where they are wanted.
        tensors: what was returned.
    """
    first = next(iter(states.values()))
    device = next(iter(first.values())).device
    places, loaded = tensors["clusters"].tolist(), list[State]()
    for number in range(max(places) + 1):
        state = without_prefix(f"weights.{number}", tensors)
        # In the order of the network, so that sums are those of a run that was never stopped.
        loaded.append({name: state[name].to(device) for name in first})
    return {site: loaded[place] for site, place in zip(states, places, strict=True)}
