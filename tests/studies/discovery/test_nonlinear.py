import numpy as np
import pytest
import torch
from samples import parabola
from scipy.optimize import approx_fprime

from mucald.randomness import generator
from mucald_studies.discovery.graphs import to_dag
from mucald_studies.discovery.nonlinear import NonlinearNotears, _Networks
from mucald_studies.discovery.notears import LinearNotears
from mucald_studies.discovery.rows import standardise

THRESHOLD = 0.1


def edges(strengths: np.ndarray) -> set[tuple[int, int]]:
    return {(int(cause), int(effect)) for cause, effect in np.argwhere(to_dag(strengths, THRESHOLD))}


@pytest.mark.parametrize("index", range(3))
def test_finds_a_parabola_that_the_linear_method_cannot_see(index: int) -> None:
    samples = parabola(300, index)
    strengths = NonlinearNotears().fit(samples, generator("fit", index))
    assert edges(strengths) == {(1, 0)}
    assert strengths[1, 0] > 0.8
    assert np.abs(LinearNotears().fit(samples, generator("fit", index))).max() < 0.2


def test_finds_a_chain_and_its_slopes() -> None:
    rng = generator("nonlinear chain")
    cause = rng.standard_normal(300)
    middle = np.cos(1.5 * cause) + 0.3 * rng.standard_normal(300)
    effect = middle**2 + 0.3 * rng.standard_normal(300)
    samples = np.stack([effect, cause, middle], axis=1)
    strengths = NonlinearNotears().fit(standardise(samples), rng)
    assert edges(strengths) == {(1, 2), (2, 0)}
    # Root mean squares of the true derivatives, in standard deviations of cause and effect.
    scale = samples.std(axis=0, ddof=1)
    first = np.sqrt(np.mean((1.5 * np.sin(1.5 * cause)) ** 2)) * scale[1] / scale[2]
    second = np.sqrt(np.mean((2 * middle) ** 2)) * scale[2] / scale[0]
    # The penalties shrink them.
    assert 0.6 < strengths[1, 2] / first < 1.1
    assert 0.6 < strengths[2, 0] / second < 1.1


def test_noise_alone_has_no_edges() -> None:
    samples = standardise(generator("noise").standard_normal((300, 3)))
    assert edges(NonlinearNotears().fit(samples, generator("fit"))) == set()


def test_graph_of_copies_is_acyclic() -> None:
    rng = generator("copies")
    samples = standardise(rng.standard_normal((60, 1))[:, [0, 0]])
    found = edges(NonlinearNotears().fit(samples, rng))
    assert len(found) == 1


def test_equal_generators_give_equal_strengths() -> None:
    samples = parabola(60, 0)
    first, second = (NonlinearNotears().fit(samples, generator("same")) for _ in range(2))
    assert (first == second).all()


def networks(flat: np.ndarray) -> _Networks:
    return _Networks(torch.from_numpy(flat.copy()), d=3, hidden=2)


def test_gradient_of_the_loss_and_no_node_sees_itself() -> None:
    rng = generator("networks")
    flat, x = rng.standard_normal(_Networks.size(3, 2)), torch.from_numpy(rng.standard_normal((20, 3)))
    built = networks(flat)
    numeric = approx_fprime(flat, lambda values: networks(values).loss(x).item(), 1e-7)
    assert built.gradient(built.loss(x)) == pytest.approx(numeric, rel=1e-4, abs=1e-6)
    assert built.group_squares().detach().diagonal().tolist() == [0, 0, 0]
    assert built.strengths(x).diagonal().tolist() == [0, 0, 0]


def test_penalty_has_a_minimum_over_how_layers_share_the_scale() -> None:
    """Nearly linear units let the first layer shrink while the second grows; both are penalised."""
    method, rng = NonlinearNotears(hidden=2), generator("networks")
    flat = rng.standard_normal(_Networks.size(3, 2))

    def size(scale: float) -> float:
        built = networks(flat)
        built.inner, built.outer = built.inner * scale, built.outer / scale
        return method._size(built).item()

    assert size(1e-3) > size(1) < size(1e3)
