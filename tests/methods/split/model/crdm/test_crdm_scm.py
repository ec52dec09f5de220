import torch
from torch import Tensor

from mucald.methods.split.causal.graphs import CausalGraph
from mucald.methods.split.model.crdm.scm import NeuralSCM, PlainEncoder
from mucald.randomness import normal, seeded_initialisation

COLLIDER = CausalGraph(("a", "b", "c", "d"), (("a", "d"), ("b", "d"), ("c", "d")))
CHAIN = CausalGraph(("a", "b", "c", "d"), (("a", "b"), ("b", "c")))


def _changed_by(scm: NeuralSCM, node: int) -> list[bool]:
    """Which nodes' values change when the exogenous variable of ``node`` does."""
    u = normal((5, 4), "u")
    moved = u.clone()
    moved[:, node] += 1
    return (scm(u) != scm(moved)).any(dim=0).tolist()


def _scm(graph: CausalGraph) -> NeuralSCM:
    with seeded_initialisation("scm"):
        return NeuralSCM(graph, hidden=32)


def test_parameter_count():
    assert sum(p.numel() for p in NeuralSCM(COLLIDER).parameters()) == 67_972


def test_a_change_reaches_descendants_and_nobody_else():
    assert _changed_by(_scm(COLLIDER), 0) == [True, False, False, True]
    assert _changed_by(_scm(COLLIDER), 3) == [False, False, False, True]
    assert _changed_by(_scm(CHAIN), 0) == [True, True, True, False]
    assert _changed_by(_scm(CHAIN), 1) == [False, True, True, False]


def test_node_is_its_mechanism_of_own_noise_and_parents():
    scm, u = _scm(COLLIDER), normal((5, 4), "u")
    z = scm(u)
    expected = scm.mechanisms[3](torch.cat([u[:, 3:], z[:, :3]], dim=1))
    torch.testing.assert_close(z[:, 3:], expected)


def test_child_depends_on_its_parent_through_the_gradient():
    def slope(graph: CausalGraph) -> Tensor:
        u = normal((5, 4), "u").requires_grad_()
        _scm(graph)(u)[:, 3].sum().backward()
        return u.grad.abs().sum(dim=0)

    assert bool((slope(COLLIDER) > 0).all())
    assert slope(CHAIN)[:3].tolist() == [0, 0, 0]


def test_plain_encoder_is_a_model_without_edges():
    edgeless = _scm(CausalGraph(COLLIDER.nodes, ()))
    plain = PlainEncoder(4, hidden=32)
    plain.load_state_dict(edgeless.state_dict())
    u = normal((5, 4), "u")
    assert torch.equal(plain(u), edgeless(u))
    for node in range(4):
        assert _changed_by(plain, node) == [other == node for other in range(4)]
