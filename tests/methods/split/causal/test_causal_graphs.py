from pathlib import Path

import numpy as np
import pytest
from tiny_job import PLAIN, run_job, tiny_config

from mucald.errors import ConfigError
from mucald.methods.split.causal.graphs import CAUSAL_TASKS, CausalGraph, CausalTask, causal_task
from mucald.tasks import TASKS, get_task

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
    assert set(causal_task(name).graph.edges) == edges
    assert len(causal_task(name).graph.nodes) == 4


@pytest.mark.parametrize("name", CAUSAL_TASKS)
def test_registry_is_consistent(name: str) -> None:
    nodes = causal_task(name).graph.nodes
    assert name in TASKS
    assert len(set(nodes)) == len(nodes)
    assert causal_task(name).measures.names == nodes


def test_a_task_without_a_graph_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'chest' has no causal graph.*blastocyst.*fetal_head"):
        causal_task("chest")


def test_only_a_job_with_proxies_needs_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CAUSAL_TASKS, "kvasir")
    plain = tiny_config(PLAIN, training={"rounds": 1})
    assert not run_job(plain, tmp_path / "plain").results["failures"]
    with pytest.raises(ConfigError, match=r"'kvasir' has no causal graph"):
        run_job(tiny_config(), tmp_path / "causal")


@pytest.mark.parametrize("name", CAUSAL_TASKS)
def test_proxies_of_an_empty_mask_are_undefined(name: str) -> None:
    image, mask = np.full((12, 12, 3), 90, np.uint8), np.zeros((12, 12), np.uint8)
    assert np.isnan(causal_task(name).measures.of(image, mask)).all()


@pytest.mark.parametrize("name", CAUSAL_TASKS)
def test_proxies_do_not_depend_on_where_the_object_lies(name: str) -> None:
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    mask[2:18, 3:19] = np.arange(16 * 16).reshape(16, 16) // 8 % (get_task(name).n_classes - 1) + 1
    image[2:18, 3:19] = np.arange(16 * 16 * 3).reshape(16, 16, 3) % 251
    moved = [np.roll(array, (13, 9), axis=(0, 1)) for array in (image, mask)]
    for node, proxy in causal_task(name).proxies.items():
        assert proxy(*moved) == pytest.approx(proxy(image, mask), nan_ok=True), node


def test_parents_are_indices_of_direct_causes() -> None:
    graph = CausalGraph(("a", "b", "c"), (("a", "b"), ("b", "c")))
    assert [graph.parents(node) for node in graph.nodes] == [(), (0,), (1,)]


@pytest.mark.parametrize("edge", [("b", "a"), ("a", "a"), ("a", "x")])
def test_graph_refuses_cycles_and_unknown_nodes(edge: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="edge"):
        CausalGraph(("a", "b"), (edge,))


def test_edges_between_proxies_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="edge LesionSize -> Depth names a node"):
        CausalTask(causal_task("kvasir").proxies, (("LesionSize", "Depth"),))
