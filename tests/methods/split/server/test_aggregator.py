import math

import pytest
import torch
from tiny_job import BATCH, CPU, LATENT, draw, equal_tensors, make_copy, tiny_config

from mucald.federation.method import Contributor
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.server.aggregator import Aggregator
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.site_copy import SiteCopy


def aggregate(config, copies, contributions) -> None:
    Aggregator(config, make_algorithm(config.algorithm)).end_round(copies, contributions)


SITES = ("north", "south", "west")
CONTRIBUTIONS = dict.fromkeys(SITES, Contributor(4, None))
BATCH_NORM = {"network": {"norm": "batch"}}


def trained_copies(config, steps: int = 1) -> list[SiteCopy]:
    """Return copies that have trained and therefore differ."""
    copies = [make_copy(config, site) for site in SITES]
    for copy in copies:
        copy.begin_round()
    proxies = draw(BATCH, 4), torch.ones(BATCH, 4, dtype=torch.uint8)
    modules = Discriminators(config, CPU).modules
    for number, copy in enumerate(copies):
        for step in range(steps):
            x = draw(*LATENT, seed=10 * number + step)
            copy.train_forward(0, step, x, torch.full((BATCH,), 300), proxies, None, modules)
            copy.train_backward(step, draw(*LATENT, seed=number))
    return copies


def tensors(copy: SiteCopy) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in copy.segments.state_dict().items()}


def test_shared_parameters_become_the_mean_of_all_sites():
    config = tiny_config()
    copies = trained_copies(config)
    before = [tensors(copy) for copy in copies]
    aggregate(config, copies, CONTRIBUTIONS)
    shared = [name for name in before[0] if copies[0].segments.is_shared(name)]
    assert shared
    for name in shared:
        expected = (sum(state[name].double() for state in before) / 3).float()
        assert not torch.equal(before[0][name], before[1][name]) or not before[0][name].any(), name
        for copy in copies:
            torch.testing.assert_close(tensors(copy)[name], expected, atol=1e-7, rtol=1e-6)
            assert torch.equal(tensors(copy)[name], tensors(copies[0])[name])


def test_a_causal_model_is_shared_by_the_sites_of_its_task_only():
    config = tiny_config()
    copies = trained_copies(config)
    before = {copy.site: tensors(copy) for copy in copies}
    aggregate(config, copies, CONTRIBUTIONS)
    after = {copy.site: tensors(copy) for copy in copies}
    own = [name for name in before["north"] if not copies[0].segments.is_shared(name)]
    assert {name.split(".")[0] for name in own} == {"crdm1", "crdm2", "prior", "posterior"}
    for name in own:
        expected = (before["north"][name].double() + before["west"][name].double()) / 2
        torch.testing.assert_close(after["north"][name], expected.float(), atol=1e-7, rtol=1e-6)
        assert torch.equal(after["north"][name], after["west"][name])
    alone = [name for name in before["south"] if not copies[1].segments.is_shared(name)]
    assert all(torch.equal(before["south"][name], after["south"][name]) for name in alone)


def test_the_optimiser_keeps_its_parameters_and_its_state():
    config = tiny_config()
    copies = trained_copies(config)
    identities = [[id(p) for p in copy.segments.parameters()] for copy in copies]
    states = [{k: v for k, v in copy.state()[0].items() if k.startswith("optimiser")} for copy in copies]
    states = [{name: tensor.clone() for name, tensor in state.items()} for state in states]
    aggregate(config, copies, CONTRIBUTIONS)
    for copy, identity, state in zip(copies, identities, states, strict=True):
        assert [id(p) for p in copy.segments.parameters()] == identity
        in_optimiser = {id(p) for group in copy.optimiser.param_groups for p in group["params"]}
        assert in_optimiser == set(identity)
        assert equal_tensors({k: v for k, v in copy.state()[0].items() if k.startswith("optimiser")}, state)


def test_the_best_weights_and_the_record_stay():
    config = tiny_config()
    copies = trained_copies(config)
    copies[0].best.keep(0.5)
    best = {name: tensor.clone() for name, tensor in copies[0].best.weights().items()}
    losses = copies[0].tally.losses.means()
    aggregate(config, copies, CONTRIBUTIONS)
    assert equal_tensors(copies[0].best.weights(), best)
    assert copies[0].tally.losses.means() == losses


def test_a_site_that_failed_takes_part_in_the_result_but_not_in_the_mean():
    config = tiny_config()
    copies = trained_copies(config)
    before = [tensors(copy) for copy in copies]
    aggregate(config, copies, dict.fromkeys(("south", "west"), Contributor(4, None)))
    name = "middle.entry.0.conv.weight"
    expected = ((before[1][name].double() + before[2][name].double()) / 2).float()
    for copy in copies:
        torch.testing.assert_close(tensors(copy)[name], expected, atol=1e-7, rtol=1e-6)
    causal = "crdm1.causal.mechanisms.0.0.weight"
    assert torch.equal(tensors(copies[0])[causal], before[2][causal]), "it gets its task's causal model"
    assert torch.equal(tensors(copies[2])[causal], before[2][causal])


def test_sizes_losses_and_proxy_errors_reach_the_rule():
    rule = {"rule": "causal_invariant", "args": {"floor": 0.25, "mixing": 0.5}}
    config = tiny_config(aggregation=rule, release={"proxy_noise_std": 0.5})
    copies = trained_copies(config)
    before = [tensors(copy) for copy in copies]
    errors = (0.5, 1.25, 2.25)
    for copy, error in zip(copies, errors, strict=True):
        copy.tally.proxy_error.total, copy.tally.proxy_error.count = 8 * error, 8
    sizes, losses = (10, 20, 40), (0.9, 0.6, 1.2)
    aggregate(config, copies, {s: Contributor(n, v) for s, n, v in zip(SITES, sizes, losses, strict=True)})
    # The noise of the targets, 0.5², is no error of the model's.
    scores = [n / ((m - 0.25 + 1e-8) * (v + 1e-8)) for n, m, v in zip(sizes, errors, losses, strict=True)]
    weights = [(score / sum(scores) + 0.25 / 3) / 1.25 for score in scores]
    weights = [weight / sum(weights) / 2 + 1 / 6 for weight in weights]
    assert sum(weights) == pytest.approx(1)
    name = "middle.entry.0.conv.weight"
    expected = sum(weight * state[name].double() for weight, state in zip(weights, before, strict=True))
    torch.testing.assert_close(tensors(copies[0])[name], expected.float(), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("averaged", [False, True])
def test_running_statistics_are_averaged_only_if_asked_and_counters_never(averaged):
    config = tiny_config(BATCH_NORM, aggregation={"statistics": averaged})
    copies = trained_copies(config)
    copies[0].segments.middle.entry[0].adn.N.num_batches_tracked += 7
    before = [tensors(copy) for copy in copies]
    statistics = [name for name in before[0] if "running_" in name]
    counters = [name for name in before[0] if "num_batches" in name]
    assert statistics
    assert counters
    aggregate(config, copies, CONTRIBUTIONS)
    for number, copy in enumerate(copies):
        after = tensors(copy)
        for name in statistics:
            mean = (sum(state[name].double() for state in before) / 3).float()
            torch.testing.assert_close(
                after[name], mean if averaged else before[number][name], atol=1e-7, rtol=1e-6
            )
        assert all(torch.equal(after[name], before[number][name]) for name in counters)
        assert not torch.equal(before[0][statistics[0]], before[1][statistics[0]])
    weight = "middle.entry.0.conv.weight"
    assert torch.equal(tensors(copies[0])[weight], tensors(copies[1])[weight]), (
        "parameters are averaged anyway"
    )


def test_nothing_of_a_sites_own_networks_is_at_the_server():
    names = [name for name, _ in make_copy(tiny_config()).segments.named_parameters()]
    assert {name.split(".")[0] for name in names} == {"middle", "crdm1", "crdm2", "prior", "posterior"}


def test_discriminators_learn_from_all_sites_whatever_their_order():
    config = tiny_config(daca={"steps": 30, "learning_rate": 0.01})
    copies = trained_copies(config, steps=2)
    for number, copy in enumerate(copies):
        copy.features[0].append(draw(4, *LATENT[1:], seed=number) + 2 * number)
        copy.features[1].append(draw(4, *LATENT[1:]))
    forward, backward = Discriminators(config, CPU), Discriminators(config, CPU)
    before = {name: tensor.clone() for name, tensor in forward.state().items()}
    report = forward.train(copies, 0)
    assert set(report) == {"loss_1", "accuracy_1", "loss_2", "accuracy_2"}
    assert report["loss_1"] < 0.9 * math.log(3) < report["loss_2"]
    assert report["accuracy_1"] > 0.45 > report["accuracy_2"], "at split 2 the sites look alike"
    assert backward.train(copies[::-1], 0) == report
    assert equal_tensors(forward.state(), backward.state())
    assert not equal_tensors(forward.state(), before)


def test_restored_discriminators_go_on_as_if_nothing_had_happened():
    config = tiny_config()
    copies = trained_copies(config, steps=2)
    whole, stopped, resumed = (Discriminators(config, CPU) for _ in range(3))
    for discriminators in (whole, stopped):
        discriminators.train(copies, 0)
    resumed.load_state({name: tensor.clone() for name, tensor in stopped.state().items()})
    assert whole.train(copies, 1) == resumed.train(copies, 1)
    assert equal_tensors(whole.state(), resumed.state())


def test_every_site_of_the_job_is_a_domain_and_each_split_has_its_own_discriminator():
    first, second = Discriminators(tiny_config(), CPU).modules
    assert first.n_domains == second.n_domains == 3
    assert not torch.equal(first.conv.weight, second.conv.weight)
    off = Discriminators(tiny_config(daca={"enabled": False}), CPU)
    assert off.modules == []
    assert off.state() == {}
    assert off.train(trained_copies(tiny_config(daca={"enabled": False})), 0) == {}
