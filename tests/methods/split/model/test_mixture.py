import pytest
import torch
from tiny_job import LATENT, PLAIN, draw, tiny_config

from mucald.losses.segmentation import SegmentationLoss
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.model.mixture import Mixture
from mucald.methods.split.model.segments import ServerSegments
from mucald.tasks import get_task

LABELS = (draw(4, 8, 8, seed=1) > 0).long()
LOSS = SegmentationLoss(2)


def segments(components: int) -> ServerSegments:
    algorithm = {"name": "fedem", "args": {"components": components}}
    config = tiny_config(PLAIN, algorithm=algorithm)
    return ServerSegments(config, make_algorithm(config.algorithm), get_task("kvasir"))


def test_components_begin_with_weights_of_their_own_and_the_first_as_the_plain_network():
    plain, mixed = segments(1).middle, segments(3).middle
    latent = draw(*LATENT)
    features = mixed(latent).chunk(3, dim=1)
    assert torch.equal(features[0], plain(latent))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(features[one], features[other], atol=0.01)


def test_responsibilities_by_hand():
    mixture = Mixture(2)
    mixture.weights.copy_(torch.tensor([0.8, 0.2]))
    found = mixture.responsibilities(torch.tensor([[0.5, 0.5], [2.0, 1.0]]))
    likelihoods = torch.tensor([[0.8, 0.2], [0.8, 0.2]]) * torch.exp(-torch.tensor([[0.5, 0.5], [2.0, 1.0]]))
    torch.testing.assert_close(found, likelihoods / likelihoods.sum(dim=1, keepdim=True))


def test_the_weights_become_the_mean_responsibilities_of_the_finished_round_alone():
    mixture = Mixture(2)
    good, bad = 6.0 * (2 * LABELS - 1), torch.zeros(4, 8, 8)
    logits = [torch.stack([-x, x], dim=1).float() for x in (good, bad)]
    mixture.terms(LOSS, logits[::-1], LABELS)
    mixture.begin_round()
    cross_entropy = torch.stack([LOSS.cross_entropy(one, LABELS) for one in logits], dim=1)
    expected = mixture.responsibilities(cross_entropy)
    for rows in (slice(0, 3), slice(3, 4)):
        mixture.terms(LOSS, [one[rows] for one in logits], LABELS[rows])
    assert torch.equal(mixture.weights, torch.tensor([0.5, 0.5]))
    mixture.end_round()
    torch.testing.assert_close(mixture.weights, expected.mean(dim=0))
    assert float(mixture.weights[0]) > 0.6


def test_the_loss_weighs_every_samples_cross_entropy_and_its_gradient_by_its_responsibilities():
    logits = [draw(4, 2, 8, 8, seed=seed).requires_grad_() for seed in (2, 3)]
    terms = Mixture(2).terms(LOSS, logits, LABELS)
    each = torch.stack([LOSS.cross_entropy(one, LABELS) for one in logits], dim=1)
    shares = Mixture(2).responsibilities(each)
    expected = (shares * each).sum(dim=1).mean()
    torch.testing.assert_close(terms["cross_entropy"], expected)
    found = torch.autograd.grad(terms["cross_entropy"], logits)
    for one, other in zip(found, torch.autograd.grad(expected, logits), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("components", [1, 3])
def test_equal_components_give_the_plain_loss_and_prediction(components):
    """One component alone, too: the mixture adds nothing to what it holds."""
    logits = draw(4, 2, 8, 8, seed=4)
    terms, plain = Mixture(components).terms(LOSS, [logits] * components, LABELS), LOSS.terms(logits, LABELS)
    for name, term in plain.items():
        torch.testing.assert_close(terms[name], term)
    torch.testing.assert_close(Mixture(components).predict([logits] * components), logits)


def test_the_prediction_is_the_weighted_sum_of_logits():
    mixture, logits = Mixture(2), [draw(1, 2, 4, 4, seed=5), draw(1, 2, 4, 4, seed=6)]
    mixture.weights.copy_(torch.tensor([0.9, 0.1]))
    torch.testing.assert_close(mixture.predict(logits), 0.9 * logits[0] + 0.1 * logits[1])
