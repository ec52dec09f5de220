"""The causal graph of each task, over proxies of its images and masks (MuCALD-SplitFed, ICIP 2026)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mucald.data.measures import Measures
from mucald.errors import ConfigError
from mucald.methods.split.causal import proxies

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Proxy = Callable[[Image, Mask], float]


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
    edges: tuple[tuple[str, str], ...]

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
        graph: the causal graph over the proxies.
        proxies: for every node of the graph, a function of image (uint8, H x W x 3) and mask (uint8, H x W),
            both of full resolution, that returns a float, NaN where it is undefined.

    Raises:
        ValueError: ``proxies`` and the nodes of ``graph`` differ.
    """

    graph: CausalGraph
    proxies: Mapping[str, Proxy]

    def __post_init__(self) -> None:
        if set(self.proxies) != set(self.graph.nodes):
            raise ValueError(f"the proxies {set(self.proxies)} are not the nodes {self.graph.nodes}")

    @property
    def measures(self) -> Measures:
        """The proxies in the order of the graph's nodes, to be taken of every sample."""
        return Measures(self.graph.nodes, tuple(self.proxies[node] for node in self.graph.nodes))


# Class ids of the tasks with more than one foreground class.
_ZONA, _TROPHECTODERM, _BLASTOCOEL = 1, 2, 4
_HEAD = 2
_NUCLEUS = 2

_HEAD_GRAPH = CausalGraph(
    nodes=("HeadPerimeter", "HeadMajorAxis", "HeadArea", "HeadCircularity"),
    edges=(
        ("HeadPerimeter", "HeadCircularity"),
        ("HeadMajorAxis", "HeadCircularity"),
        ("HeadArea", "HeadCircularity"),
    ),
)


def _head_proxies(label: int) -> dict[str, Proxy]:
    return {
        "HeadPerimeter": partial(proxies.perimeter, label=label),
        "HeadMajorAxis": partial(proxies.major_axis, label=label),
        "HeadArea": partial(proxies.area, label=label),
        "HeadCircularity": partial(proxies.circularity, label=label),
    }


def _cell_area(image: Image, mask: Mask) -> float:
    return proxies.area(image, (mask > 0).astype(np.uint8))


# Those of wbc and fetal_head are not of the paper; their graphs are this project's own.
CAUSAL_TASKS: dict[str, CausalTask] = {
    "blastocyst": CausalTask(
        graph=CausalGraph(
            nodes=("ZPThicknessVar", "TEArea", "BubbleArea", "BlastocoelSym"),
            edges=(
                ("ZPThicknessVar", "BlastocoelSym"),
                ("TEArea", "BlastocoelSym"),
                ("BubbleArea", "BlastocoelSym"),
            ),
        ),
        proxies={
            "ZPThicknessVar": partial(proxies.thickness_spread, label=_ZONA),
            "TEArea": partial(proxies.area, label=_TROPHECTODERM),
            "BubbleArea": partial(proxies.bubble_area, label=_BLASTOCOEL),
            # The paper tells no formula; it is an asymmetry, 0 for a symmetric cavity.
            "BlastocoelSym": partial(proxies.asymmetry, label=_BLASTOCOEL),
        },
    ),
    "ham10k": CausalTask(
        graph=CausalGraph(
            nodes=("LesionSize", "Compactness", "MeanRGB", "Asymmetry"),
            edges=(("LesionSize", "Compactness"), ("LesionSize", "Asymmetry"), ("MeanRGB", "Asymmetry")),
        ),
        proxies={
            "LesionSize": proxies.area,
            "Compactness": proxies.compactness,
            "MeanRGB": proxies.mean_rgb,
            "Asymmetry": proxies.asymmetry,
        },
    ),
    "fetal": CausalTask(
        graph=_HEAD_GRAPH,
        proxies=_head_proxies(_HEAD),
    ),
    "mosmed": CausalTask(
        graph=CausalGraph(
            nodes=("LesionSize", "Solidity", "Perimeter", "Orientation"),
            edges=(("LesionSize", "Solidity"), ("LesionSize", "Orientation"), ("Perimeter", "Orientation")),
        ),
        proxies={
            "LesionSize": proxies.area,
            "Solidity": proxies.solidity,
            "Perimeter": proxies.perimeter,
            "Orientation": proxies.orientation,
        },
    ),
    "kvasir": CausalTask(
        graph=CausalGraph(
            nodes=("MeanRGB", "LesionSize", "Compactness", "Asymmetry"),
            edges=(("LesionSize", "Compactness"), ("LesionSize", "Asymmetry"), ("MeanRGB", "Asymmetry")),
        ),
        proxies={
            "MeanRGB": proxies.mean_rgb,
            "LesionSize": proxies.area,
            "Compactness": proxies.compactness,
            "Asymmetry": proxies.asymmetry,
        },
    ),
    "wbc": CausalTask(
        graph=CausalGraph(
            nodes=("CellArea", "NucleusSolidity", "NucleusArea", "NucleusRGB"),
            edges=(
                ("CellArea", "NucleusArea"),
                ("NucleusSolidity", "NucleusArea"),
                ("NucleusSolidity", "NucleusRGB"),
            ),
        ),
        proxies={
            "CellArea": _cell_area,
            "NucleusSolidity": partial(proxies.solidity, label=_NUCLEUS),
            "NucleusArea": partial(proxies.area, label=_NUCLEUS),
            "NucleusRGB": partial(proxies.mean_rgb, label=_NUCLEUS),
        },
    ),
    "fetal_head": CausalTask(
        graph=_HEAD_GRAPH,
        proxies=_head_proxies(1),
    ),
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
