import numpy as np
import pytest

from mucald.errors import ConfigError
from mucald.methods.split.causal.graphs import causal_task
from mucald.tasks import TASKS, CausalGraph, Task, get_task

# MuCALD-SplitFed, ICIP 2026: number of classes, and the edges of the causal graph.
PAPER = {
    "blastocyst": (
        5,
        {
            ("ZPThicknessVar", "BlastocoelSym"),
            ("TEArea", "BlastocoelSym"),
            ("BubbleArea", "BlastocoelSym"),
        },
    ),
    "ham10k": (
        2,
        {("LesionSize", "Compactness"), ("LesionSize", "Asymmetry"), ("MeanRGB", "Asymmetry")},
    ),
    "fetal": (
        3,
        {
            ("HeadPerimeter", "HeadCircularity"),
            ("HeadMajorAxis", "HeadCircularity"),
            ("HeadArea", "HeadCircularity"),
        },
    ),
    "mosmed": (
        2,
        {("LesionSize", "Solidity"), ("LesionSize", "Orientation"), ("Perimeter", "Orientation")},
    ),
    "kvasir": (
        2,
        {("LesionSize", "Compactness"), ("LesionSize", "Asymmetry"), ("MeanRGB", "Asymmetry")},
    ),
}


@pytest.mark.parametrize("name", PAPER)
def test_tasks_of_the_paper(name: str) -> None:
    task, (n_classes, edges) = get_task(name), PAPER[name]
    assert task.n_classes == n_classes
    assert task.classes[0] == "background"
    assert set(causal_task(task.name).graph.edges) == edges
    assert len(causal_task(task.name).graph.nodes) == 4


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_registry_is_consistent(task: Task) -> None:
    assert TASKS[task.name] is task
    assert len(set(task.classes)) == task.n_classes
    assert len(set(causal_task(task.name).graph.nodes)) == len(causal_task(task.name).graph.nodes)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_proxies_of_an_empty_mask_are_undefined(task: Task) -> None:
    image, mask = np.full((12, 12, 3), 90, np.uint8), np.zeros((12, 12), np.uint8)
    assert all(np.isnan(proxy(image, mask)) for proxy in causal_task(task.name).proxies.values())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_proxies_do_not_depend_on_where_the_object_lies(task: Task) -> None:
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    mask[2:18, 3:19] = np.arange(16 * 16).reshape(16, 16) // 8 % (task.n_classes - 1) + 1
    image[2:18, 3:19] = np.arange(16 * 16 * 3).reshape(16, 16, 3) % 251
    moved = [np.roll(array, (13, 9), axis=(0, 1)) for array in (image, mask)]
    for name, proxy in causal_task(task.name).proxies.items():
        assert proxy(*moved) == pytest.approx(proxy(image, mask), nan_ok=True), name


def test_unknown_task_names_the_closest_and_all_known() -> None:
    with pytest.raises(ConfigError, match=r"'kvasr'; did you mean 'kvasir'\?.*blastocyst.*fetal_head"):
        get_task("kvasr")


def test_parents_are_indices_of_direct_causes() -> None:
    graph = CausalGraph(("a", "b", "c"), (("a", "b"), ("b", "c")))
    assert [graph.parents(node) for node in graph.nodes] == [(), (0,), (1,)]


@pytest.mark.parametrize("edge", [("b", "a"), ("a", "a"), ("a", "x")])
def test_graph_refuses_cycles_and_unknown_nodes(edge: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="edge"):
        CausalGraph(("a", "b"), (edge,))


def test_task_refuses_proxies_that_are_not_its_nodes() -> None:
    task = TASKS["kvasir"]
    with pytest.raises(ValueError, match="proxies are not the nodes"):
        Task("x", "X", task.classes, CausalGraph(("a",), ()), causal_task(task.name).proxies, task.phantom)
