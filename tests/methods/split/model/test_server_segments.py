import itertools
import math

import pytest
import torch
from tiny_job import BATCH, CPU, LATENT, PLAIN, draw, tiny_config

from mucald.methods.split.algorithms.splitfed import SplitFed
from mucald.methods.split.causal.graphs import CAUSAL_TASKS
from mucald.methods.split.model.crdm.scm import NeuralSCM
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.server.discriminators import Discriminators
from mucald.randomness import normal
from mucald.tasks import get_task

LEVEL = torch.full((BATCH,), 300)
KEY = (7, "server", "north", 0, 0, "train")
EVERY_GROUP = {
    "middle",
    "encoder_1",
    "causal_1",
    "denoiser_1",
    "encoder_2",
    "causal_2",
    "denoiser_2",
    "prior",
}


def segments(task: str = "kvasir", *changes, **more) -> ServerSegments:
    return ServerSegments(tiny_config(*changes, **more), SplitFed(), get_task(task))


def has_gradient(parameters) -> bool:
    return any(p.grad is not None and bool((p.grad != 0).any()) for p in parameters)


def test_every_parameter_is_in_one_group():
    model = segments()
    grouped = [id(p) for parameters in model.groups().values() for p in parameters]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert set(model.groups()) == EVERY_GROUP


def test_the_causal_model_and_its_prior_are_the_tasks_and_the_rest_is_shared():
    model = segments()
    own = {p for name in ("causal_1", "causal_2", "prior") for p in model.groups()[name]}
    assert own
    for name, parameter in model.named_parameters():
        assert model.is_shared(name) == (parameter not in own), name


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"crdm": {"encoder": "none"}}, {"encoder_1", "causal_1", "encoder_2", "causal_2", "prior"}),
        ({"crdm": {"denoiser": False}}, {"denoiser_1", "denoiser_2"}),
        (PLAIN, EVERY_GROUP - {"middle"}),
    ],
)
def test_what_is_switched_off_has_no_parameters(changes, missing):
    model = segments("kvasir", changes)
    assert set(model.groups()) == EVERY_GROUP - missing
    parts = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert ("prior" in parts) == ("prior" not in missing)


@pytest.mark.parametrize("task", CAUSAL_TASKS)
def test_a_site_has_its_own_tasks_graph_at_both_splits(task):
    model, graph = segments(task), CAUSAL_TASKS[task].graph
    for crdm in (model.crdm1, model.crdm2):
        assert isinstance(crdm.causal, NeuralSCM)
        assert crdm.causal.parents == tuple(graph.parents(node) for node in graph.nodes)
    without = segments(task, crdm={"encoder": "plain"})
    assert without.crdm1.causal.parents == ((),) * len(graph.nodes)


def test_sites_begin_with_equal_shared_parts_and_with_their_tasks_causal_model():
    polyp, again, skin = (segments(task).state_dict() for task in ("kvasir", "kvasir", "ham10k"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in polyp.items())
    shared = [name for name in polyp if ServerSegments.is_shared(name)]
    assert shared == [name for name in skin if ServerSegments.is_shared(name)]
    assert all(torch.equal(polyp[name], skin[name]) for name in shared)
    same_shape = [n for n in polyp if n not in shared and n in skin and polyp[n].shape == skin[n].shape]
    drawn = [name for name in same_shape if "posterior" not in name]
    assert drawn
    assert not any(torch.equal(polyp[name], skin[name]) for name in drawn if name.endswith("weight"))


def test_another_seed_gives_other_weights():
    one, other = segments(seed=7).middle.state_dict(), segments(seed=8).middle.state_dict()
    weights = [name for name in one if name.endswith("conv.weight")]
    assert weights
    assert not any(torch.equal(one[name], other[name]) for name in weights)


def test_exogenous_variables_are_drawn_in_training_and_means_at_evaluation():
    model, x = segments(), draw(*LATENT)
    runs = [model(x, LEVEL, (*KEY, n)) for n in (1, 2)]
    assert not torch.equal(runs[0].first.z, runs[1].first.z)
    assert torch.equal(runs[0].first.mu, runs[1].first.mu)
    u = runs[0].first.mu + (runs[0].first.logvar / 2).exp() * normal((BATCH, 4), *KEY, 1, "exogenous_1")
    torch.testing.assert_close(runs[0].first.z, model.crdm1.causal(u))
    model.eval()
    runs = [model(x, LEVEL, (*KEY, n)) for n in (1, 2)]
    assert torch.equal(runs[0].first.z, runs[1].first.z)
    torch.testing.assert_close(runs[0].first.z, model.crdm1.causal(runs[0].first.mu))


def test_the_servers_own_noise_at_split_2_has_the_level_of_the_job():
    model, x = segments(), draw(*LATENT)
    run = model(x, LEVEL, KEY)
    signal = float(model.schedule.alpha_bar(100))
    noise = (run.middle_noised - math.sqrt(signal) * run.middle) / math.sqrt(1 - signal)
    torch.testing.assert_close(noise, normal(LATENT, *KEY, "split_2"), atol=1e-4, rtol=1e-4)
    draws = [model(x, LEVEL, (*KEY, part)).middle_noised for part in ("exogenous_1", "split_2", "other")]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(draws, 2))


@pytest.mark.parametrize("changes", [{"release": {"noised": False}}, {"crdm": {"denoiser": False}}])
def test_nothing_is_noised_where_there_is_nothing_to_undo(changes):
    run = segments("kvasir", changes)(draw(*LATENT), LEVEL * 0, KEY)
    assert torch.equal(run.middle_noised, run.middle)


def test_a_plain_split_network_is_the_middle_network():
    model, x = segments("kvasir", PLAIN), draw(*LATENT)
    run = model(x, LEVEL * 0, KEY)
    assert torch.equal(run.second.denoised, model.middle(x))
    assert run.first.z is None
    assert model.causal_losses(run, draw(BATCH, 4), torch.ones(BATCH, 4, dtype=torch.bool)) == {}
    assert model.diffusion_losses(run, KEY, None) == {}


def test_the_task_trains_every_module_but_the_prior():
    """Through x̂2 alone: the causal variables condition the denoisers with their gradient."""
    model = segments()
    model(draw(*LATENT), LEVEL, KEY).second.denoised.square().sum().backward()
    trained = {name for name, parameters in model.groups().items() if has_gradient(parameters)}
    assert trained == EVERY_GROUP - {"prior"}


@pytest.mark.parametrize("supervision", ["sure", "ambient", "epsilon"])
def test_the_diffusion_terms_train_the_crdms_and_no_one_elses_network(supervision):
    model = segments(crdm={"supervision": supervision})
    x = draw(*LATENT).requires_grad_()
    run = model(x, LEVEL, KEY)
    terms = model.diffusion_losses(run, KEY, draw(*LATENT, seed=1) if supervision == "epsilon" else None)
    assert set(terms) == {"diffusion_1", "diffusion_2"}
    terms["diffusion_1"].backward(retain_graph=True)
    trained = {name for name, parameters in model.groups().items() if has_gradient(parameters)}
    assert trained == {"encoder_1", "causal_1", "denoiser_1"}
    model.zero_grad()
    terms["diffusion_2"].backward()
    trained = {name for name, parameters in model.groups().items() if has_gradient(parameters)}
    assert trained == {"denoiser_2"}
    assert x.grad is None


def test_the_causal_terms_train_what_they_name():
    model = segments()
    x = draw(*LATENT).requires_grad_()
    run = model(x, LEVEL, KEY)
    terms = model.causal_losses(run, draw(BATCH, 4), torch.ones(BATCH, 4, dtype=torch.bool))
    assert {name for name in terms if name.endswith("_1")} == {"proxy_1", "kl_exogenous_1", "kl_causal_1"}
    expected = {
        "proxy_1": {"encoder_1", "causal_1"},
        "kl_exogenous_1": {"encoder_1"},
        "kl_causal_1": {"encoder_1", "causal_1", "prior"},
    }
    for name, groups in expected.items():
        model.zero_grad()
        x.grad = None
        terms[name].backward(retain_graph=True)
        assert {n for n, parameters in model.groups().items() if has_gradient(parameters)} == groups, name
        assert bool((x.grad != 0).any()), "and the front end"


def test_missing_proxies_take_no_part():
    model = segments()
    run = model(draw(*LATENT), LEVEL, KEY)
    proxies, present = draw(BATCH, 4), torch.tensor([[True, True, False, True], [True, True, False, True]])
    changed = proxies.clone()
    changed[:, 2] = 99.0
    one, other = (model.causal_losses(run, y, present) for y in (proxies, changed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_adversarial_terms_reach_both_splits_and_spare_the_discriminators():
    config = tiny_config()
    model, modules = segments(), Discriminators(config, CPU).modules
    run = model(draw(*LATENT), LEVEL, KEY)
    # The site that the discriminator is surest of: of the others there may be nothing left to hide.
    domain = int(modules[0](run.first.denoised).sum(dim=0).argmax())
    terms = model.adversarial_losses(run, modules, domain)
    logits = modules[1](run.second.denoised)
    expected = -torch.log_softmax(logits, dim=1)[:, domain]
    torch.testing.assert_close(terms["adversarial_2"], expected.clamp(max=math.log(3)).mean())
    terms["adversarial_1"].backward(retain_graph=True)
    assert {n for n, p in model.groups().items() if has_gradient(p)} == {
        "encoder_1",
        "causal_1",
        "denoiser_1",
    }
    assert all(p.grad is None for module in modules for p in module.parameters())
