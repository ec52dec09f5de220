import pytest
import torch

from mucald.errors import ConfigError
from mucald.methods.split.causal.graphs import CausalGraph
from mucald.methods.split.model.crdm.denoiser import ConditionalDenoiser
from mucald.methods.split.model.crdm.exogenous import ExogenousEncoder, sample
from mucald.methods.split.model.crdm.module import CRDM
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.model.crdm.scm import NeuralSCM, PlainEncoder
from mucald.randomness import normal, seeded_initialisation

GRAPH = CausalGraph(("a", "b", "c"), (("a", "c"), ("b", "c")))
X_T, T = normal((2, 4, 8, 8), "x"), torch.tensor([200, 300])


def _encoder() -> ExogenousEncoder:
    return ExogenousEncoder(4, 3, width=8)


def _denoiser(n_nodes: int = 3) -> ConditionalDenoiser:
    return ConditionalDenoiser(4, n_nodes, CosineSchedule(), width=8, embedding=8)


def _whole() -> CRDM:
    with seeded_initialisation("crdm"):
        return CRDM(_encoder(), NeuralSCM(GRAPH, hidden=8), _denoiser())


def test_whole_module_is_the_composition_of_its_parts():
    crdm, noise = _whole(), normal((2, 3), "u")
    output = crdm(X_T, X_T, T, noise)
    mu, logvar = crdm.encoder(X_T)
    z = crdm.causal(sample(mu, logvar, noise))
    assert torch.equal(output.z, z)
    assert torch.equal(output.mu, mu)
    assert torch.equal(output.logvar, logvar)
    assert torch.equal(output.denoised, crdm.denoiser(X_T, T, z))


def test_evaluation_takes_the_mean():
    crdm = _whole()
    assert torch.equal(crdm(X_T, X_T, T).z, crdm(X_T, X_T, T, torch.zeros(2, 3)).z)
    assert not torch.equal(crdm(X_T, X_T, T).z, crdm(X_T, X_T, T, torch.ones(2, 3)).z)


def test_a_loss_behind_the_denoiser_trains_every_part():
    crdm = _whole()
    crdm(X_T, X_T, T, normal((2, 3), "u")).denoised.square().sum().backward()
    for name, part in crdm.named_children():
        assert all(p.grad is not None for p in part.parameters()), name
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0, name


def test_estimator_reads_the_causal_variables_from_its_argument():
    crdm, noise = _whole(), normal((2, 3), "u")
    other = normal((2, 4, 8, 8), "other")
    assert torch.equal(crdm.estimator(noise)(other, T), crdm(other, other, T, noise).denoised)


def test_without_denoiser_the_latent_passes_as_it_is():
    output = CRDM(_encoder(), PlainEncoder(3, hidden=8), None)(X_T, X_T, T)
    assert output.denoised is X_T
    assert output.z.shape == (2, 3)


def test_without_causal_part_only_the_level_conditions():
    denoiser = _denoiser(n_nodes=0)
    output = CRDM(None, None, denoiser)(X_T, X_T, T)
    assert output.z is None
    assert output.mu is None
    assert torch.equal(output.denoised, denoiser(X_T, T))


def test_without_any_part():
    assert CRDM(None, None, None)(X_T, X_T, T).denoised is X_T


def test_parts_must_fit():
    with pytest.raises(ConfigError, match="both or neither"):
        CRDM(_encoder(), None, _denoiser())
    with pytest.raises(ConfigError, match="denoiser has 2 nodes"):
        CRDM(_encoder(), PlainEncoder(3), _denoiser(n_nodes=2))
    with pytest.raises(ConfigError, match="encoder has 3 nodes"):
        CRDM(_encoder(), PlainEncoder(4), None)
