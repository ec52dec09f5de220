"""What is trained together: sizes, losses and what can be drawn."""

import pytest
import torch
from tiny_job import draw

from mucald.methods.generative.algorithms import ALGORITHMS
from mucald.methods.generative.algorithms.base import Samples
from mucald.methods.generative.algorithms.gaussians import COUNT, SQUARE, SUM, ClassGaussians, Statistics
from mucald.methods.generative.config import OptimiserConfig
from mucald.methods.generative.nets.cgan import CGAN
from mucald.methods.generative.nets.cvae import CVAE
from mucald.privacy.dp.steps import PrivateStep


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def samples(number: int = 400, k: int = 6, classes: int = 3) -> Samples:
    labels = torch.arange(number) % classes
    x = draw(number, k) + 3 * draw(classes, k, seed=1)[labels]
    return Samples(x / x.norm(dim=1, keepdim=True) * k**0.5, labels)


def test_networks_of_the_papers_sizes_have_its_numbers_of_parameters():
    """The paper's CVAE has two layers for mean and variance, which as one have as many numbers."""
    cvae = CVAE(768, 11, (256, 256, 256), 100, 0.5)
    assert (count(cvae.encoder), count(cvae.decoder), count(cvae)) == (382_664, 357_632, 740_296)
    assert count(CVAE(384, 11, (256, 256, 256), 100, 0.5)) == 543_304
    cgan = CGAN(768, 11, (512, 1024), 100)
    assert (count(cgan.generator), count(cgan.discriminator)) == (1_369_856, 1_324_033)


def test_the_loss_is_the_negative_evidence_lower_bound_by_variance_and_dimension():
    torch.manual_seed(0)
    cvae, batch, noise = CVAE(6, 3, (5,), 2, 0.3), samples(40), draw(40, 2, seed=3)
    mean, log_variance = cvae.encoder(
        torch.cat((batch.x, torch.nn.functional.one_hot(batch.labels, 3).float()), dim=1)
    ).chunk(2, dim=1)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    z = mean + posterior.stddev * noise
    decoded = cvae.decoder(torch.cat((z, torch.nn.functional.one_hot(batch.labels, 3).float()), dim=1))
    likelihood = torch.distributions.Normal(decoded, 0.3**0.5).log_prob(batch.x).sum(dim=1)
    constant = 6 / 2 * torch.log(torch.tensor(2 * torch.pi * 0.3))
    expected = (kl - likelihood - constant) * 0.3 / 6
    torch.testing.assert_close(cvae.losses(batch.x, batch.labels, noise), expected)


def test_the_posterior_does_not_collapse_where_there_is_something_to_tell():
    """As it does in the paper's code, whose KL term weighs as much as the batch is large."""
    torch.manual_seed(0)
    labels = torch.zeros(256, dtype=torch.int64)
    x = draw(256, 1) * torch.ones(1, 6) + 0.1 * draw(256, 6, seed=2)
    cvae = CVAE(6, 1, (16,), 1, 0.05)
    optimiser = torch.optim.Adam(cvae.parameters(), lr=0.01)
    for step in range(300):
        optimiser.zero_grad()
        cvae.losses(x, labels, draw(256, 1, seed=step)).mean().backward()
        optimiser.step()
    drawn = cvae.sample(labels, draw(256, 1, seed=9), torch.zeros(256, 6))
    assert float(drawn.mean(dim=1).std()) > 0.7


@pytest.mark.parametrize("name", ["cvae", "cgan"])
def test_without_noise_what_is_drawn_of_a_class_lies_near_it(name):
    torch.manual_seed(0)
    batch = samples(300)
    algorithm = ALGORITHMS[name]() if name == "cvae" else ALGORITHMS[name](hidden=(32,), latent=4)
    rate = OptimiserConfig(learning_rate=0.01, momentum=0.9 if name == "cvae" else 0.5)
    learner = algorithm.learner(6, 3, (), rate)
    for step in range(600):
        learner.plain_step(batch, (step,), 1.0, {})
    labels = torch.arange(3).repeat_interleave(200)
    drawn = algorithm.sample(learner, labels, ("draw",))
    for label in range(3):
        centre = batch.x[batch.labels == label].mean(dim=0)
        others = torch.stack([batch.x[batch.labels == other].mean(dim=0) for other in range(3)])
        own = drawn[labels == label].mean(dim=0)
        assert int(torch.cdist(own[None], others).argmin()) == label
        assert float((own - centre).norm()) < 1.5


def test_gaussians_have_the_means_and_covariance_of_the_samples():
    batch = samples(3000)
    statistics = Statistics(6, 3)
    statistics.add(batch.at(torch.arange(1000)))
    statistics.add(batch.at(torch.arange(1000, 3000)))
    means, root = statistics.gaussians()
    u = batch.x / 6**0.5
    expected = torch.stack([u[batch.labels == label].mean(dim=0) for label in range(3)])
    torch.testing.assert_close(means, expected, atol=1e-4, rtol=1e-3)
    within = u - expected[batch.labels]
    torch.testing.assert_close(root @ root.T, within.T @ within / 3000, atol=2e-3, rtol=0.1)


def test_gaussians_of_noise_alone_tell_no_classes_apart():
    algorithm = ClassGaussians()
    learner = algorithm.learner(6, 3, (), OptimiserConfig())
    learner.private_step(samples(30), PrivateStep(1.0, 1000.0, 4.0), ("noise",), (0,), 1.0)
    means, root = learner.module.gaussians()
    assert float((means - means.mean(dim=0)).norm(dim=1).max()) < 2 * float(means.mean(dim=0).norm()) + 1
    assert bool(root.isfinite().all())


def test_one_sample_moves_the_sums_of_gaussians_by_less_than_one():
    batch, sums = samples(10), []
    for number in (9, 10):
        statistics = Statistics(6, 3)
        statistics.add(batch.at(torch.arange(number)))
        sums.append(torch.cat([part.flatten() for part in statistics.parts().values()]))
    most = (COUNT**2 + SUM**2 + SQUARE**2) ** 0.5
    assert float((sums[1] - sums[0]).norm()) == pytest.approx(most, rel=1e-5)
    assert COUNT**2 + SUM**2 + SQUARE**2 < 1


def test_the_discriminator_alone_sees_images_and_the_generator_goes_on_from_round_to_round():
    torch.manual_seed(0)
    algorithm = ALGORITHMS["cgan"](hidden=(5,), latent=2)
    learner, batch = algorithm.learner(6, 3, (), OptimiserConfig()), samples(12)
    before = {name: tensor.clone() for name, tensor in learner.shared().items()}
    learner.private_step(batch, PrivateStep(1.0, 1.0, 4.0), ("noise",), (0,), 1.0)
    assert all(name.startswith("generator") for name in before)
    assert any(not torch.equal(tensor, learner.shared()[name]) for name, tensor in before.items())
    other = algorithm.learner(6, 3, (), OptimiserConfig())
    other.load_state({name: tensor.clone() for name, tensor in learner.state().items()})
    for one in (learner, other):
        one.private_step(batch, PrivateStep(1.0, 1.0, 4.0), ("more",), (1,), 1.0)
    assert all(torch.equal(tensor, other.shared()[name]) for name, tensor in learner.shared().items())
