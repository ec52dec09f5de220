import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_job import AT_ONCE, BATCH, CPU, LATENT, PLAIN, draw, equal_tensors, make_copy, tiny_config

from mucald.device import settle_threads
from mucald.errors import TrainingError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.round_tally import ProxyError
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.state.averages import total_norm

LEVEL = torch.full((BATCH,), 300)
PROXIES = draw(BATCH, 4, seed=5), torch.ones(BATCH, 4, dtype=torch.uint8)
UNCLIPPED = {"optimiser": {"clip_norm": 1e9}}
RAMPED = ("proxy", "diffusion", "kl_exogenous", "kl_causal", "adversarial")
CONFLICT_AVERSE = {"rule": "conflict_averse", "args": {"c": 0.4}}
BOTH_CRDMS = {f"{name}_{number}" for name in RAMPED for number in (1, 2)}


def learn(
    copy: SiteCopy,
    config: SplitConfig,
    step: int = 0,
    round_number: int = 0,
    proxies=PROXIES,
    gradient: torch.Tensor | None = None,
) -> torch.Tensor:
    """Do one training step and return ∂L/∂x_t; without a gradient of the site's own, the server's losses'."""
    modules = Discriminators(config, CPU).modules
    noise = draw(*LATENT, seed=3) if config.crdm.supervision == "epsilon" else None
    copy.train_forward(round_number, step, draw(*LATENT, seed=step), LEVEL, proxies, noise, modules)
    return copy.train_backward(step, torch.zeros(LATENT) if gradient is None else gradient)


def learned(*changes, **arguments) -> SiteCopy:
    config = tiny_config(*changes)
    copy = make_copy(config)
    learn(copy, config, **arguments)
    return copy


@pytest.mark.parametrize("supervision", ["sure", "ambient", "epsilon"])
def test_every_loss_term_and_every_gradient_is_there_and_not_zero(supervision):
    config = tiny_config(crdm={"supervision": supervision})
    copy = make_copy(config)
    for step in range(2):
        learn(copy, config, step, gradient=draw(*LATENT, seed=9))
    losses, gradients = copy.tally.losses.means(), copy.tally.gradients.means()
    assert set(losses) == BOTH_CRDMS | {"proximal"}
    assert all(value != 0 and math.isfinite(value) for value in losses.values())
    assert set(gradients) == set(copy.segments.groups())
    assert all(value > 0 for value in gradients.values())


def test_the_threads_that_carry_a_step_change_no_bit(monkeypatch):
    config = tiny_config(release={"noised": False}, crdm={"denoiser": False})

    def latent_gradient() -> torch.Tensor:
        return learn(make_copy(config), config, gradient=draw(*LATENT, seed=9) / 10)

    expected = latent_gradient()
    for name in ("train_forward", "train_backward"):
        monkeypatch.setattr(SiteCopy, name, in_a_thread_of_its_own(getattr(SiteCopy, name)))
    assert torch.equal(latent_gradient(), expected)


def in_a_thread_of_its_own(method):
    def call(*arguments):
        with ThreadPoolExecutor(1, initializer=settle_threads) as thread:
            return thread.submit(method, *arguments).result()

    return call


def both(*names: str) -> set[str]:
    return {f"{name}_{number}" for name in names for number in (1, 2)}


@pytest.mark.parametrize(
    ("change", "absent"),
    [
        ({"daca": {"enabled": False}}, both("adversarial")),
        ({"crdm": {"encoder": "none"}}, both("proxy", "kl_exogenous", "kl_causal")),
        ({"crdm": {"denoiser": False}}, both("diffusion")),
        ({"release": {"noised": False}}, both("diffusion")),
        *[({"losses": {name: {"weight": 0.0}}}, both(name)) for name in RAMPED],
        ({"losses": {"proximal": 0.0}}, {"proximal"}),
        (PLAIN, BOTH_CRDMS | {"proximal"}),
    ],
)
def test_what_is_switched_off_is_absent_not_zero(change, absent):
    copy = learned(change, proxies=None if change.get("crdm", {}).get("encoder") == "none" else PROXIES)
    assert set(copy.tally.losses.means()) == (BOTH_CRDMS | {"proximal"}) - absent


def test_without_proxies_there_is_no_causal_term():
    losses = learned(proxies=None).tally.losses.means()
    assert set(losses) == both("diffusion", "adversarial") | {"proximal"}


def test_a_ramp_weighs_its_term_by_the_progress_of_the_whole_run():
    """The prior learns from the causal KL alone, so its gradient shows the weight."""
    ramp = {"training": {"rounds": 5}, "losses": {"kl_causal": {"weight": 1.0, "warm_up": 0.5, "ramp": 0.5}}}
    half, whole = (learned(ramp, UNCLIPPED, round_number=number) for number in (3, 4))
    for early in (0, 1):
        copy = learned(ramp, UNCLIPPED, round_number=early)
        assert not {name for name in copy.tally.losses.means() if name.startswith("kl_causal")}
        assert copy.tally.gradients.means()["prior"] == 0
    # Other draws in another round; the prior's own gradient changes with z only.
    config = tiny_config(ramp, UNCLIPPED, losses={"kl_causal": AT_ONCE})
    for number, copy, weight in ((3, half, 0.5), (4, whole, 1.0)):
        reference = make_copy(config)
        learn(reference, config, round_number=number)
        expected = weight * reference.tally.gradients.means()["prior"]
        assert copy.tally.gradients.means()["prior"] == pytest.approx(expected, rel=1e-5)


def first_moments(copy: SiteCopy, part: str = "") -> list[torch.Tensor | None]:
    """Return AdamW's running mean of every parameter's gradient; the gradients themselves do not stay."""
    parameters = [p for name, p in copy.segments.named_parameters() if name.startswith(part)]
    assert all(parameter.grad is None for parameter in parameters)
    return [copy.optimiser.state[parameter].get("exp_avg") for parameter in parameters]


def test_the_gradients_are_those_of_the_weighted_sum():
    config = tiny_config(UNCLIPPED, losses={"kl_exogenous": {"weight": 0.3}, "kl_causal": {"weight": 0.2}})
    copy, gradient = make_copy(config), draw(*LATENT, seed=9)
    returned = learn(copy, config, gradient=gradient)

    model, modules, key = (
        make_copy(config).segments,
        Discriminators(config, CPU).modules,
        (7, "server", "north", 0, 0, "train"),
    )
    x = draw(*LATENT, seed=0).requires_grad_()
    run = model(x, LEVEL, key)
    terms = model.causal_losses(run, PROXIES[0], PROXIES[1].bool())
    terms |= model.diffusion_losses(run, key, None) | model.adversarial_losses(run, modules, 0)
    weights = {"proxy": 0.4, "diffusion": 0.4, "kl_exogenous": 0.3, "kl_causal": 0.2, "adversarial": 0.1}
    assert {name[:-2] for name in terms} == set(weights)
    total = (run.second.denoised * gradient).sum()
    total = total + sum(weights[name[:-2]] * value for name, value in terms.items())
    total.backward()
    torch.testing.assert_close(returned, x.grad)
    found = dict(zip(dict(copy.segments.named_parameters()), first_moments(copy), strict=True))
    for name, parameter in model.named_parameters():
        # The first step's moment is a tenth of the gradient.
        expected = None if parameter.grad is None else 0.1 * parameter.grad
        torch.testing.assert_close(found[name], expected, msg=name)


def test_the_proximal_term_pulls_the_middle_network_back_to_where_the_round_began():
    """FedProx: mu (θ − θ_round) is added to the gradient, ½ mu ‖θ − θ_round‖² to the losses."""
    mu = 0.7
    copies = []
    for weight in (0.0, mu):
        config = tiny_config(UNCLIPPED, losses={"proximal": weight})
        copies.append(make_copy(config))
        learn(copies[-1], config, 0, gradient=draw(*LATENT, seed=9))
    free, pulled = copies
    # At the round's first step θ is θ_round, so the two still agree.
    assert equal_tensors(free.segments.state_dict(), pulled.segments.state_dict())
    offsets = [
        p.detach() - pulled.start[f"middle.{name}"] for name, p in free.segments.middle.named_parameters()
    ]
    assert pulled.tally.losses.means()["proximal"] == 0
    for copy, weight in zip(copies, (0.0, mu), strict=True):
        learn(copy, tiny_config(UNCLIPPED, losses={"proximal": weight}), 1, gradient=draw(*LATENT, seed=9))
    value = 0.5 * mu * sum(float(offset.square().sum()) for offset in offsets)
    assert value > 0
    assert pulled.tally.losses.means()["proximal"] == pytest.approx(value / 2, rel=1e-4)
    middles = (first_moments(free, "middle."), first_moments(pulled, "middle."))
    for one, other, offset in zip(*middles, offsets, strict=True):
        # The moments of the first step were equal, so a tenth of the second's difference is left.
        torch.testing.assert_close(10 * (other - one), mu * offset, atol=1e-5, rtol=1e-3)


def test_every_module_is_clipped_on_its_own_and_reported_as_it_was():
    limit = 0.01
    copy = learned({"optimiser": {"clip_norm": limit}}, gradient=draw(*LATENT, seed=9))
    reported = copy.tally.gradients.means()
    moments = {
        name: [copy.optimiser.state[p]["exp_avg"] for p in parameters if p in copy.optimiser.state]
        for name, parameters in copy.segments.groups().items()
    }
    clipped = {name: 10 * total_norm(of_module) for name, of_module in moments.items()}
    assert clipped == {name: pytest.approx(min(norm, limit), rel=1e-3) for name, norm in reported.items()}
    assert max(reported.values()) > 10 * limit > limit > min(reported.values())


def test_every_module_has_its_learning_rate_and_decay():
    rates = {"segmentation": 0.1, "causal": 0.2, "denoiser": 0.3, "weight_decay": 0.4}
    copy = make_copy(tiny_config(optimiser=rates))
    found = {id(p): (g["lr"], g["weight_decay"]) for g in copy.optimiser.param_groups for p in g["params"]}
    assert len(found) == len(list(copy.segments.parameters()))
    for name, parameters in copy.segments.groups().items():
        rate = {"middle": 0.1, "denoiser_1": 0.3, "denoiser_2": 0.3}.get(name, 0.2)
        assert {found[id(p)] for p in parameters} == {(rate, 0.4)}, name


def test_a_gradient_needs_its_own_forward_pass_and_only_once():
    config = tiny_config()
    copy = make_copy(config)
    with pytest.raises(TrainingError, match="no forward pass of step 0"):
        copy.train_backward(0, torch.zeros(LATENT))
    learn(copy, config)
    with pytest.raises(TrainingError, match="no forward pass of step 0"):
        copy.train_backward(0, torch.zeros(LATENT))


def test_a_term_that_is_not_finite_is_named_with_site_and_step():
    config = tiny_config()
    copy = make_copy(config)
    with torch.no_grad():
        copy.segments.prior.heads.weight.fill_(math.nan)
    with pytest.raises(
        TrainingError, match="loss term 'kl_causal_1' of site 'north' is not finite at step 4"
    ) as error:
        learn(copy, config, step=4)
    assert error.value.public == str(error.value)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"losses": {"proximal": 0.0}}, ()),
        ({"losses": {"proximal": 0.1}}, ("middle.",)),
        ({"losses": {"proximal": 0.0}, "aggregation": CONFLICT_AVERSE}, ("middle.", "crdm")),
    ],
)
def test_a_copy_keeps_of_a_rounds_beginning_what_the_job_compares_with(change, kept):
    copy = make_copy(tiny_config(change))
    shared = {name for name in copy.segments.state_dict() if copy.segments.is_shared(name)}
    assert copy.start.keys() == {name for name in shared if name.startswith(kept)}


def test_a_round_begins_with_an_empty_record_and_the_present_weights_as_reference():
    config = tiny_config(aggregation=CONFLICT_AVERSE)
    copy = make_copy(config)
    learn(copy, config, gradient=draw(*LATENT, seed=9))
    shared = {n: t for n, t in copy.segments.state_dict().items() if copy.segments.is_shared(n)}
    assert not equal_tensors(copy.start, shared)
    copy.begin_round()
    assert equal_tensors(copy.start, shared)
    assert copy.tally.losses.means() == {}
    assert [len(buffer) for buffer in copy.features] == [0, 0]


def test_features_of_both_splits_are_buffered_for_the_discriminators():
    config = tiny_config(daca={"buffer": 3})
    copy = make_copy(config)
    sent = []
    for step in range(2):
        modules = Discriminators(config, CPU).modules
        sent.append(copy.train_forward(0, step, draw(*LATENT, seed=step), LEVEL, PROXIES, None, modules))
    assert torch.equal(copy.features[1].features(), torch.cat(sent)[-3:])
    assert copy.features[0].features().shape == (3, *LATENT[1:])
    off = learned({"daca": {"enabled": False}})
    assert [len(buffer) for buffer in off.features] == [0, 0]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_evaluation_repeats_and_changes_nothing(norm):
    config = tiny_config(network={"norm": norm})
    copy = make_copy(config)
    learn(copy, config)
    before = {name: tensor.clone() for name, tensor in copy.state()[0].items()}
    x = draw(*LATENT)
    first, again = (copy.evaluate(1, 0, "validation", x, LEVEL) for _ in range(2))
    assert torch.equal(first, again)
    assert not first.requires_grad
    assert not torch.equal(first, copy.evaluate(1, 0, "test", x, LEVEL))
    assert equal_tensors(before, copy.state()[0])


def test_the_proxy_error_is_that_of_the_causal_variables_less_the_noise():
    copy, model = make_copy(tiny_config()), make_copy(tiny_config()).segments.eval()
    present = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1]], dtype=torch.uint8)
    total, count = 0.0, 0
    for step in range(2):
        x, y = draw(*LATENT, seed=step), draw(BATCH, 4, seed=50 + step)
        copy.evaluate(1, step, "validation", x, LEVEL, (y, present))
        z = model(x, LEVEL, (7, "server", "north", 1, step, "validation")).first.z.detach()
        total += float(((z - y) ** 2 * present).sum())
        count += int(present.sum())
    assert copy.tally.proxy_error.mean(0.0) == pytest.approx(total / count, rel=1e-5)
    assert copy.tally.proxy_error.mean(0.25) == pytest.approx(total / count - 0.25, rel=1e-5)
    assert ProxyError(1.0, 8).mean(0.25) == 0.0
    assert ProxyError().mean(0.25) is None


def test_the_best_weights_come_back():
    config = tiny_config()
    copy = make_copy(config)
    assert not copy.best.keep(-1.0), "a validation in which nothing counts is never the best"
    assert copy.best.keep(0.5)
    best = {name: tensor.clone() for name, tensor in copy.segments.state_dict().items()}
    learn(copy, config)
    assert not copy.best.keep(0.5), "only a better one replaces it"
    assert not equal_tensors(copy.segments.state_dict(), best)
    copy.load_best()
    assert equal_tensors(copy.segments.state_dict(), best)


def test_a_restored_copy_goes_on_as_if_nothing_had_happened():
    config = tiny_config()
    whole, stopped, resumed = make_copy(config), make_copy(config), make_copy(config)
    best = {}
    for copy in (whole, stopped):
        learn(copy, config, 0)
        copy.best.keep(0.5)
        best = {name: tensor.clone() for name, tensor in copy.segments.state_dict().items()}
        copy.begin_round()
    learn(whole, config, 1, 1)
    tensors, state = stopped.state()
    resumed.load_state({name: tensor.clone() for name, tensor in tensors.items()}, state)
    resumed.begin_round()
    learn(resumed, config, 1, 1)
    assert equal_tensors(whole.state()[0], resumed.state()[0])
    assert whole.state()[1] == resumed.state()[1]
    assert whole.tally.losses.means() == resumed.tally.losses.means()
    assert not resumed.best.keep(0.4)
    resumed.load_best()
    assert equal_tensors(resumed.segments.state_dict(), best)
