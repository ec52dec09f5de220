import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mucald.errors import ConfigError, TrainingError
from mucald.methods.split.model.daca import (
    Discriminator,
    FeatureBuffer,
    adversarial_loss,
    reverse_gradient,
    train_discriminator,
)
from mucald.randomness import normal, seeded_initialisation


def _discriminator(n_domains: int = 3) -> Discriminator:
    with seeded_initialisation("discriminator"):
        return Discriminator(4, n_domains, width=16)


def _features(count: int, name: str, offset: float = 0.0) -> Tensor:
    return normal((count, 4, 8, 8), name) + offset


def _train(features: dict[int, Tensor], discriminator: Discriminator, steps: int = 40, key: tuple = ("key",)):
    optimiser = torch.optim.Adam(discriminator.parameters(), 1e-2)
    return train_discriminator(discriminator, optimiser, features, steps, batch_per_domain=8, key=key)


def test_gradient_reversal():
    x = _features(2, "x").requires_grad_()
    reversed_x = reverse_gradient(x, scale=0.5)
    assert torch.equal(reversed_x, x)
    (3 * reversed_x).sum().backward()
    assert bool((x.grad == -1.5).all())


@pytest.mark.parametrize(("channels", "parameters"), [(32, 37_637), (64, 74_501), (256, 295_685)])
def test_parameter_count(channels, parameters):
    assert sum(p.numel() for p in Discriminator(channels, 5).parameters()) == parameters


def test_adversarial_loss_reverses_the_gradient_and_spares_the_discriminator():
    discriminator, features = _discriminator(), _features(2, "x").requires_grad_()
    domain = int(discriminator(features).sum(dim=0).argmax())
    ordinary = cross_entropy(discriminator(features), torch.tensor([domain, domain]))
    (ordinary_gradient,) = torch.autograd.grad(ordinary, features)
    adversarial = adversarial_loss(discriminator, features, domain)
    adversarial.backward()
    torch.testing.assert_close(adversarial, ordinary)
    torch.testing.assert_close(features.grad, -ordinary_gradient)
    assert bool((features.grad != 0).any())
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())


def test_a_map_that_is_no_better_than_chance_counts_as_chance_and_gets_no_gradient():
    discriminator, features = _discriminator(), _features(8, "x").requires_grad_()
    with torch.no_grad():
        losses = cross_entropy(discriminator(features), torch.ones(8, dtype=torch.int64), reduction="none")
    aligned = losses >= math.log(3)
    assert 0 < int(aligned.sum()) < 8
    loss = adversarial_loss(discriminator, features, domain=1)
    loss.backward()
    expected = torch.where(aligned, math.log(3), losses).mean()
    torch.testing.assert_close(loss.detach(), expected)
    moved = features.grad.flatten(1).any(dim=1)
    assert torch.equal(moved, ~aligned)


def test_sites_may_read_the_discriminator_at_once():
    discriminator = _discriminator()
    features = [_features(2, f"site {site}") for site in range(4)]
    in_turn = [adversarial_loss(discriminator, x, 0).item() for x in features]
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(adversarial_loss, discriminator, x, 0) for _ in range(50) for x in features]
        at_once = [task.result().item() for task in tasks]
    assert at_once == in_turn * 50
    assert all(isinstance(p, torch.nn.Parameter) and p.requires_grad for p in discriminator.parameters())


@pytest.mark.parametrize("domain", [-1, 3])
def test_unknown_domain(domain):
    with pytest.raises(ConfigError, match="not one of the discriminator's 3"):
        adversarial_loss(_discriminator(), _features(2, "x"), domain)
    with pytest.raises(ConfigError, match="not one of the discriminator's 3"):
        _train({0: _features(2, "x"), domain: _features(2, "x")}, _discriminator())


def test_buffer_keeps_the_last_maps_without_their_graph():
    buffer, maps = FeatureBuffer(capacity=3), _features(5, "x").requires_grad_()
    buffer.append(maps[:2])
    buffer.append(maps[2:])
    assert len(buffer) == 3
    assert torch.equal(buffer.features(), maps[2:])
    assert not buffer.features().requires_grad
    buffer.clear()
    with pytest.raises(TrainingError, match="empty"):
        buffer.features()


def test_buffer_copies_and_converts():
    buffer, maps = FeatureBuffer(capacity=3), torch.ones(2, 4, 8, 8)
    buffer.append(maps)
    maps.zero_()
    assert bool((buffer.features() == 1).all())
    buffer.append(torch.ones(1, 4, 8, 8, dtype=torch.bfloat16))
    assert buffer.features().dtype == torch.float32
    with pytest.raises(ConfigError, match="at least 1"):
        FeatureBuffer(0)


def test_discriminator_learns_to_tell_sites_apart():
    discriminator = _discriminator()
    features = {d: _features(32, f"site {d}", offset=d - 1.0) for d in range(3)}
    first, second = (_train(features, discriminator, key=(part,)) for part in ("first", "second"))
    assert second.accuracy > 0.95
    assert second.loss < first.loss < math.log(3)
    unseen = discriminator(_features(32, "unseen", offset=1.0)).argmax(dim=1)
    assert float((unseen == 2).float().mean()) > 0.9


def test_discriminator_is_at_chance_where_sites_look_alike():
    features = {d: _features(512, f"site {d}") for d in range(3)}
    discriminator = _discriminator()
    report = _train(features, discriminator, steps=60)
    # 60 batches of 24: a standard error of .012.
    assert report.accuracy == pytest.approx(1 / 3, abs=0.06)
    assert report.loss == pytest.approx(math.log(3), abs=0.1)


def test_report_is_of_predictions_before_learning_from_them():
    discriminator, x = _discriminator(2), _features(1, "x")
    logits = discriminator(x).detach().expand(16, 2)
    labels = torch.tensor([0] * 8 + [1] * 8)
    report = _train({0: x, 1: x}, discriminator, steps=1)
    assert report.accuracy == 0.5
    assert report.loss == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-6)


def test_training_does_not_depend_on_the_order_of_arrival():
    features = {d: _features(9 + d, f"site {d}", offset=0.1 * d) for d in range(3)}
    one, other, third = _discriminator(), _discriminator(), _discriminator()
    report = _train(features, one, steps=5)
    assert _train(dict(reversed(features.items())), other, steps=5) == report
    assert _train(features, third, steps=5, key=("other",)) != report
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("features", [{}, {1: normal((4, 4, 8, 8), "alone")}])
def test_nothing_is_trained_with_fewer_than_two_sites(features):
    discriminator = _discriminator()
    before = [p.clone() for p in discriminator.parameters()]
    assert _train(features, discriminator) is None
    assert all(torch.equal(a, b) for a, b in zip(before, discriminator.parameters(), strict=True))
