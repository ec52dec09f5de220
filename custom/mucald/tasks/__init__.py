"""The segmentation tasks. A task is one entry here: classes, causal graph, proxies, phantom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mucald.config.schema import closest
from mucald.data.images import phantoms
from mucald.errors import ConfigError
from mucald.methods.split.causal import proxies

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Proxy = Callable[[Image, Mask], float]
Phantom = Callable[[np.random.Generator, int], tuple[Image, Mask]]


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
class Task:
    """What a site segments.

    Args:
        name: how jobs and site files call it.
        title: how tables and pictures call it.
        classes: their names in the order of the mask's values, background first.
        graph: the causal graph over the proxies (MuCALD-SplitFed, ICIP 2026, task-specific graphs).
        proxies: for every node of the graph, a function of image (uint8, H x W x 3) and mask (uint8, H x W),
            both of full resolution, that returns a float, NaN where it is undefined.
        phantom: draws an image and its mask of the given size from a random generator.

    Raises:
        ValueError: ``proxies`` and the nodes of ``graph`` differ.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    graph: CausalGraph
    proxies: Mapping[str, Proxy]
    phantom: Phantom

    def __post_init__(self) -> None:
        if set(self.proxies) != set(self.graph.nodes):
            raise ValueError(f"task {self.name}: the proxies are not the nodes {self.graph.nodes}")

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)


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


_TASKS = (
    Task(
        name="blastocyst",
        title="Blastocyst",
        classes=("background", "zona pellucida", "trophectoderm", "inner cell mass", "blastocoel"),
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
        phantom=phantoms.draw_blastocyst,
    ),
    Task(
        name="ham10k",
        title="HAM10K skin lesion",
        classes=("background", "lesion"),
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
        phantom=phantoms.draw_skin,
    ),
    Task(
        name="fetal",
        title="Fetal head and pubic symphysis",
        classes=("background", "pubic symphysis", "fetal head"),
        graph=_HEAD_GRAPH,
        proxies=_head_proxies(_HEAD),
        phantom=phantoms.draw_pelvis,
    ),
    Task(
        name="mosmed",
        title="MosMed COVID-19 CT",
        classes=("background", "infection"),
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
        phantom=phantoms.draw_lung,
    ),
    Task(
        name="kvasir",
        title="Kvasir polyp",
        classes=("background", "polyp"),
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
        phantom=phantoms.draw_polyp,
    ),
    # The two below are not of the paper; their graphs are this project's own.
    Task(
        name="wbc",
        title="White blood cell",
        classes=("background", "cytoplasm", "nucleus"),
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
        phantom=phantoms.draw_blood_cell,
    ),
    Task(
        name="fetal_head",
        title="Fetal head",
        classes=("background", "head"),
        graph=_HEAD_GRAPH,
        proxies=_head_proxies(1),
        phantom=phantoms.draw_fetal_head,
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _TASKS}


def get_task(name: str) -> Task:
    """Return the task called ``name``.

    Raises:
        ConfigError: there is none; the message names the closest and all known ones.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task '{name}'{closest(name, list(TASKS))} (known: {', '.join(TASKS)})")
    return TASKS[name]
