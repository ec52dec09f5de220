"""Every formula in the table is checked against the proxies themselves."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from mucald.data.images.phantoms import PHANTOMS
from mucald.methods.split.causal.graphs import CAUSAL_TASKS, causal_task
from mucald.randomness import generator
from mucald.tasks import TASKS
from mucald_studies.discovery.definitions import DEFINITIONS, definition_of, note
from mucald_studies.discovery.graphs import reverse

SIZE = 96


def values(task: str, index: int) -> tuple[dict[str, float], np.ndarray]:
    """Return the proxies of a phantom by name, and its mask."""
    image, mask = PHANTOMS[task](generator("definitions", task, index), SIZE)
    return {name: proxy(image, mask) for name, proxy in CAUSAL_TASKS[task].proxies.items()}, mask


def test_circularity_is_area_and_perimeter() -> None:
    proxies, _ = values("fetal", 0)
    expected = 4 * math.pi * proxies["HeadArea"] / proxies["HeadPerimeter"] ** 2
    assert proxies["HeadCircularity"] == pytest.approx(expected)


def test_compactness_times_size_is_a_squared_perimeter() -> None:
    task = TASKS["ham10k"]
    image, mask = PHANTOMS[task.name](generator("definitions", "ham10k", 1), SIZE)
    perimeter = CAUSAL_TASKS["mosmed"].proxies["Perimeter"](image, mask)
    expected = perimeter**2 / (4 * math.pi * causal_task(task.name).proxies["LesionSize"](image, mask))
    assert causal_task(task.name).proxies["Compactness"](image, mask) == pytest.approx(expected, rel=0.02)


def test_asymmetry_times_size_is_a_whole_number_of_pixels() -> None:
    for index in range(3):
        proxies, _ = values("kvasir", index)
        pixels = proxies["Asymmetry"] * proxies["LesionSize"]
        assert pixels == pytest.approx(round(pixels), abs=1e-6)


@pytest.mark.parametrize(
    ("task", "solidity", "area"),
    [("mosmed", "Solidity", "LesionSize"), ("wbc", "NucleusSolidity", "NucleusArea")],
)
def test_solidity_of_one_square_is_its_area_by_its_hull(task: str, solidity: str, area: str) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:25, 8:30] = TASKS[task].n_classes - 1
    mask[5:12, 8:20] = 0
    image = np.zeros((40, 40, 3), np.uint8)
    corners = np.argwhere(mask)[:, None] + [(0, 0), (0, 1), (1, 0), (1, 1)]
    hull = ConvexHull(corners.reshape(-1, 2)).volume
    proxies = {name: proxy(image, mask) for name, proxy in CAUSAL_TASKS[task].proxies.items()}
    assert proxies[solidity] == pytest.approx(proxies[area] / hull)


def test_cell_is_nucleus_and_cytoplasm() -> None:
    proxies, mask = values("wbc", 0)
    assert proxies["CellArea"] == proxies["NucleusArea"] + np.count_nonzero(mask == 1)


@pytest.mark.parametrize(
    "definition", [d for d in DEFINITIONS if d.kind == "geometry"], ids=lambda d: str(d.edge)
)
def test_geometric_near_identities_hold_on_phantoms(definition) -> None:
    """The proxies of the outline determine the result almost fully, in logarithms."""
    task = next(
        name
        for name, t in CAUSAL_TASKS.items()
        if {definition.argument, definition.result} <= set(t.graph.nodes)
    )
    drawn = [values(task, index)[0] for index in range(60)]
    sizes = [name for name in causal_task(task).graph.nodes if definition.result != name and name in _SIZES]
    x = np.array([[1, *(math.log(d[name]) for name in sizes)] for d in drawn])
    y = np.array([math.log(d[definition.result]) for d in drawn])
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert definition.argument in sizes
    assert residual.var() < 0.35 * y.var()


_SIZES = {"HeadArea", "HeadPerimeter", "HeadMajorAxis", "LesionSize"}


def test_lookup_works_both_ways_and_tells_which() -> None:
    edge = ("NucleusArea", "CellArea")
    assert definition_of(edge) is definition_of(reverse(edge))
    assert note(edge) == "algebraic definition"
    assert note(reverse(edge)) == "algebraic definition, read backwards"
    assert note(("HeadMajorAxis", "HeadCircularity")) == "geometric near-identity"
    assert note(("MeanRGB", "Asymmetry")) == ""


def test_table_names_pairs_of_some_task_once() -> None:
    pairs = [frozenset(definition.edge) for definition in DEFINITIONS]
    assert len(set(pairs)) == len(pairs)
    for pair in pairs:
        assert any(pair <= set(task.graph.nodes) for task in CAUSAL_TASKS.values()), pair


def test_built_in_edges_that_are_definitions() -> None:
    by_definition = {
        (cause, effect): note((cause, effect))
        for task in CAUSAL_TASKS.values()
        for cause, effect in task.graph.edges
    }
    assert {edge for edge, words in by_definition.items() if words == "algebraic definition"} == {
        ("LesionSize", "Compactness"),
        ("LesionSize", "Asymmetry"),
        ("LesionSize", "Solidity"),
        ("HeadPerimeter", "HeadCircularity"),
        ("HeadArea", "HeadCircularity"),
    }
    assert {edge for edge, words in by_definition.items() if words.endswith("backwards")} == {
        ("CellArea", "NucleusArea"),
        ("NucleusSolidity", "NucleusArea"),
    }


def test_documented_table_is_this_one() -> None:
    text = (Path(__file__).parents[3] / "docs/discovery.md").read_text(encoding="utf-8")
    documented = {
        (cause, effect): (set(tasks.split(", ")), what.split(":")[0])
        for cause, effect, tasks, what in re.findall(r"(?m)^\| (\w+) → (\w+) \| ([^|]+) \| (.+) \|$", text)
    }
    expected = {
        edge: (
            {name for name, task in CAUSAL_TASKS.items() if edge in task.graph.edges},
            note(edge).removeprefix("algebraic "),
        )
        for built_in in CAUSAL_TASKS.values()
        for edge in built_in.graph.edges
        if note(edge)
    }
    assert documented == expected
