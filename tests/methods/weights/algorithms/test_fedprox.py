import pytest
import torch
from families import config_of
from tiny_job import equal_models, run_job
from torch import nn

from mucald.errors import ConfigError
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.algorithms.fedprox import FedProx
from mucald.methods.weights.config import AlgorithmConfig


def test_without_its_weight_it_is_fedavg_to_the_bit(tmp_path):
    algorithm = {"name": "fedprox", "args": {"mu": 0.0}}
    prox = run_job(config_of("weights fedprox", algorithm=algorithm), tmp_path / "prox")
    average = run_job(config_of("weights fedavg"), tmp_path / "average")
    assert prox.results["rounds"] == average.results["rounds"]
    assert equal_models(prox, average)


def test_it_adds_the_gradient_of_half_mu_times_the_squared_distance():
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    begun = torch.tensor([0.5, -1.0])
    parameter.grad = torch.tensor([10.0, 10.0])
    losses = FedProx(mu=0.4).adjust_gradients({"w": parameter}, {"w": begun})
    reference = nn.Parameter(parameter.detach().clone())
    (0.5 * 0.4 * (reference - begun).square().sum()).backward()
    assert reference.grad is not None
    assert torch.allclose(parameter.grad, 10.0 + reference.grad)
    assert losses == {"proximal": pytest.approx(0.5 * 0.4 * 1.25)}


def test_a_parameter_without_a_gradient_gets_none():
    parameter = nn.Parameter(torch.ones(2))
    FedProx(mu=1.0).adjust_gradients({"w": parameter}, {"w": torch.zeros(2)})
    assert parameter.grad is None


@pytest.mark.parametrize("method", ["weights fedprox", "weights ditto"])
def test_a_site_that_shares_nothing_is_held_to_nothing(method, tmp_path):
    sites = {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}, "west": {"task": "kvasir"}}
    alone = {"shared": [], "shared_in_group": ["middle"], "sites": sites}
    assert run_job(config_of(method, **alone), tmp_path).results["failures"] == []


def test_it_holds_the_sites_closer_to_where_the_round_began(tmp_path):
    def moved(mu: float) -> float:
        # Distances of several rounds, for AdamW's first steps are of one size whatever the gradient.
        training = {"rounds": 3, "local_epochs": 4, "batch_size": 2}
        algorithm = {"name": "fedprox", "args": {"mu": mu}}
        config = config_of("weights fedprox", algorithm=algorithm, training=training)
        rounds = run_job(config, tmp_path / str(mu)).results["rounds"]
        return sum(entry["update_norm"]["shared"] for entry in rounds)

    assert moved(100.0) < 0.8 * moved(0.0)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("fedpox", {}, "unknown algorithm 'fedpox'; did you mean 'fedprox'"),
        ("fedprox", {}, "missing key 'algorithm.args.mu'"),
        ("fedprox", {"mu": -1.0}, "mu must not be negative"),
        ("fedavg", {"mu": 1.0}, "unknown key 'algorithm.args.mu'"),
    ],
)
def test_wrong_arguments_are_named(name, args, message):
    with pytest.raises(ConfigError, match=message):
        make_algorithm(AlgorithmConfig(name=name, args=args))
