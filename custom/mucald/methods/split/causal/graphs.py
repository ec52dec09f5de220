"""The causal graph of each task, over proxies of its images and masks (MuCALD-SplitFed, ICIP 2026)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mucald.data.measures import Measures
from mucald.errors import ConfigError
from mucald.methods.split.causal import proxies

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Proxy = Callable[[Image, Mask], float]
Edge = tuple[str, str]


@dataclass(frozen=True)
class CausalGraph:
    """A directed acyclic graph over a task's proxies.

    Args:
        nodes: names of the proxies, in a topological order (every parent before its children).
        edges: (cause, effect) pairs.

    Raises:
        ValueError: an edge names an unknown node or runs against the order of ``nodes``.
    """

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        for cause, effect in self.edges:
            if cause not in self.nodes or effect not in self.nodes:
                raise ValueError(f"edge {cause} -> {effect} names a node that is not in {self.nodes}")
            if self.nodes.index(cause) >= self.nodes.index(effect):
                raise ValueError(f"edge {cause} -> {effect} runs against the order of the nodes")

    def parents(self, node: str) -> tuple[int, ...]:
        """Return the indices of the direct causes of ``node``."""
        return tuple(self.nodes.index(cause) for cause, effect in self.edges if effect == node)


@dataclass(frozen=True)
class CausalTask:
    """What the causal part knows of a task.

    Args:
        proxies: for every node of the causal graph, in a topological order, a function of image (uint8,
            H x W x 3) and mask (uint8, H x W), both of full resolution, that returns a float, NaN where it is
            undefined.
        edges: (cause, effect) pairs of nodes.

    Raises:
        ValueError: see :class:`CausalGraph`.
    """

    proxies: Mapping[str, Proxy]
    edges: tuple[Edge, ...]
    graph: CausalGraph = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "graph", CausalGraph(tuple(self.proxies), self.edges))

    @property
    def measures(self) -> Measures:
        """The proxies in the order of the graph's nodes, to be taken of every sample."""
        return Measures(tuple(self.proxies), tuple(self.proxies.values()))


# Class ids of the tasks with more than one foreground class.
_ZONA, _TROPHECTODERM, _BLASTOCOEL = 1, 2, 4
_HEAD = 2
_NUCLEUS = 2


def _head(label: int) -> CausalTask:
    return CausalTask(
        {
            "HeadPerimeter": partial(proxies.perimeter, label=label),
            "HeadMajorAxis": partial(proxies.major_axis, label=label),
            "HeadArea": partial(proxies.area, label=label),
            "HeadCircularity": partial(proxies.circularity, label=label),
        },
        (
            ("HeadPerimeter", "HeadCircularity"),
            ("HeadMajorAxis", "HeadCircularity"),
            ("HeadArea", "HeadCircularity"),
        ),
    )


def _cell_area(image: Image, mask: Mask) -> float:
    return proxies.area(image, (mask > 0).astype(np.uint8))


# Those of wbc and fetal_head are not of the paper; their graphs are this project's own.
CAUSAL_TASKS: dict[str, CausalTask] = {
    "blastocyst": CausalTask(
        {
            "ZPThicknessVar": partial(proxies.thickness_spread, label=_ZONA),
            "TEArea": partial(proxies.area, label=_TROPHECTODERM),
            "BubbleArea": partial(proxies.bubble_area, label=_BLASTOCOEL),
            # The paper tells no formula; it is an asymmetry, 0 for a symmetric cavity.
            "BlastocoelSym": partial(proxies.asymmetry, label=_BLASTOCOEL),
        },
        (("ZPThicknessVar", "BlastocoelSym"), ("TEArea", "BlastocoelSym"), ("BubbleArea", "BlastocoelSym")),
    ),
    "ham10k": CausalTask(
        {
            "LesionSize": proxies.area,
            "Compactness": proxies.compactness,
            "MeanRGB": proxies.mean_rgb,
            "Asymmetry": proxies.asymmetry,
        },
        (("LesionSize", "Compactness"), ("LesionSize", "Asymmetry"), ("MeanRGB", "Asymmetry")),
    ),
    "fetal": _head(_HEAD),
    "mosmed": CausalTask(
        {
            "LesionSize": proxies.area,
            "Solidity": proxies.solidity,
            "Perimeter": proxies.perimeter,
            "Orientation": proxies.orientation,
        },
        (("LesionSize", "Solidity"), ("LesionSize", "Orientation"), ("Perimeter", "Orientation")),
    ),
    "kvasir": CausalTask(
        {
            "MeanRGB": proxies.mean_rgb,
            "LesionSize": proxies.area,
            "Compactness": proxies.compactness,
            "Asymmetry": proxies.asymmetry,
        },
        (("LesionSize", "Compactness"), ("LesionSize", "Asymmetry"), ("MeanRGB", "Asymmetry")),
    ),
    "wbc": CausalTask(
        {
            "CellArea": _cell_area,
            "NucleusSolidity": partial(proxies.solidity, label=_NUCLEUS),
            "NucleusArea": partial(proxies.area, label=_NUCLEUS),
            "NucleusRGB": partial(proxies.mean_rgb, label=_NUCLEUS),
        },
        (("CellArea", "NucleusArea"), ("NucleusSolidity", "NucleusArea"), ("NucleusSolidity", "NucleusRGB")),
    ),
    "fetal_head": _head(1),
}


def n_proxies(encoder: str, name: str) -> int:
    """Return how many proxies a job uses of samples of a task: none without an encoder (``crdm.encoder``)."""
    return 0 if encoder == "none" else len(causal_task(name).graph.nodes)


def measures_of(name: str) -> Measures:
    """Return the proxies of the task called ``name``, see :func:`causal_task`."""
    return causal_task(name).measures


def causal_task(name: str) -> CausalTask:
    """Return what the causal part knows of the task called ``name``.

    Raises:
        ConfigError: the task has no causal graph.
    """
    if name not in CAUSAL_TASKS:
        raise ConfigError(f"the task '{name}' has no causal graph (known: {', '.join(CAUSAL_TASKS)})")
    return CAUSAL_TASKS[name]
