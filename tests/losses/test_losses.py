import pytest
import torch
from monai.losses.dice import DiceLoss

from mucald.losses.segmentation import SegmentationLoss
from mucald.randomness import generator, normal


def sample(n_classes=3, batch=2, size=8):
    labels = torch.from_numpy(generator("labels").integers(0, n_classes, (batch, size, size)))
    return normal((batch, n_classes, size, size), "logits"), labels


def dice_by_hand(logits, labels):
    """Mean over classes of 1 - 2 |p g| / (|p| + |g|), 0 for a class without reference."""
    probabilities = logits.double().softmax(dim=1)
    terms = []
    for index in range(logits.shape[1]):
        p, g = probabilities[:, index], (labels == index).double()
        terms.append(1 - 2 * (p * g).sum() / (p.sum() + g.sum()) if g.any() else torch.tensor(0.0))
    return sum(terms) / len(terms)


def cross_entropy_by_hand(logits, labels):
    log_probabilities = logits.double().log_softmax(dim=1)
    return -log_probabilities.gather(1, labels[:, None]).mean()


def test_terms_by_hand():
    logits, labels = sample()
    terms = SegmentationLoss(3).terms(logits, labels)
    assert terms["dice"].item() == pytest.approx(dice_by_hand(logits, labels).item(), rel=1e-5)
    assert terms["cross_entropy"].item() == pytest.approx(
        cross_entropy_by_hand(logits, labels).item(), rel=1e-5
    )


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_dice_is_monai_s_to_the_bit_and_so_is_its_gradient(n_classes, scale):
    logits, labels = sample(n_classes, batch=3, size=17)
    monais = DiceLoss(softmax=True, to_onehot_y=True, batch=True, smooth_nr=0.0, smooth_dr=1e-7)
    found, expected = ((scale * logits).requires_grad_() for _ in range(2))
    ours, theirs = SegmentationLoss(n_classes).terms(found, labels)["dice"], monais(expected, labels[:, None])
    assert torch.equal(ours, theirs)
    ours.backward()
    theirs.backward()
    assert torch.equal(found.grad, expected.grad)


def test_an_absent_class_contributes_neither_loss_nor_gradient():
    logits, labels = sample()
    labels = labels.clamp(max=1)
    logits.requires_grad_()
    dice = SegmentationLoss(3).terms(logits, labels)["dice"]
    assert dice.item() == pytest.approx(dice_by_hand(logits.detach(), labels).item(), rel=1e-5)
    # Only the two present classes are in the sum, the third divides it still: at most 2/3.
    everywhere_absent = torch.full_like(logits, -20.0)
    everywhere_absent[:, 2] = 20.0
    assert SegmentationLoss(3).terms(everywhere_absent, labels)["dice"].item() == pytest.approx(2 / 3)
    dice.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_loss_is_the_weighted_sum(weight):
    logits, labels = sample()
    loss = SegmentationLoss(3, cross_entropy_weight=weight)
    terms = loss.terms(logits, labels)
    assert loss(logits, labels).item() == pytest.approx(
        terms["dice"].item() + weight * terms["cross_entropy"].item()
    )


def test_a_perfect_prediction_costs_nothing():
    _, labels = sample()
    logits = 40.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert SegmentationLoss(3)(logits, labels).item() == pytest.approx(0.0, abs=1e-6)


def test_only_background_and_sure_of_it_is_finite():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 0] = 200.0
    logits.requires_grad_()
    loss = SegmentationLoss(2)(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad.isfinite().all()


def test_dice_is_pooled_over_the_batch():
    """A class that one image lacks is judged on all images' pixels together."""
    logits, labels = sample()
    labels[0] = 0
    loss = SegmentationLoss(3)
    assert loss(logits, labels).item() == pytest.approx(loss(logits.flip(0), labels.flip(0)).item())
    assert loss.terms(logits, labels)["dice"].item() == pytest.approx(dice_by_hand(logits, labels).item())


def test_gradient_steps_reduce_the_loss():
    logits, labels = sample()
    logits.requires_grad_()
    loss = SegmentationLoss(3)
    before = loss(logits, labels)
    before.backward()
    with torch.no_grad():
        assert loss(logits - logits.grad, labels) < before


def test_weights_of_one_give_the_plain_terms_and_gradients():
    logits, labels = sample()
    labels[0] = 0
    gradients = []
    for weights in (None, torch.ones(2)):
        leaf = logits.clone().requires_grad_()
        loss = SegmentationLoss(3)
        terms = loss.terms(leaf, labels) if weights is None else loss.weighted_terms(leaf, labels, weights)
        loss.combine(terms).backward()
        gradients.append((terms["dice"].detach(), terms["cross_entropy"].detach(), leaf.grad))
    for plain, weighted in zip(*gradients, strict=True):
        torch.testing.assert_close(weighted, plain, atol=1e-7, rtol=1e-5)


def test_weights_that_part_the_batch_give_the_mean_of_its_groups_by_size():
    logits, labels = sample(batch=3)
    loss = SegmentationLoss(3)
    groups = [torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])]
    for name in ("dice", "cross_entropy"):
        weighted = sum(loss.weighted_terms(logits, labels, group)[name] for group in groups)
        plain = [loss.terms(logits[g.bool()], labels[g.bool()])[name] * g.sum() / 3 for g in groups]
        torch.testing.assert_close(weighted, sum(plain), atol=1e-6, rtol=1e-5)


def test_a_sample_of_weight_0_has_no_gradient():
    logits, labels = sample()
    logits.requires_grad_()
    loss = SegmentationLoss(3)
    loss.combine(loss.weighted_terms(logits, labels, torch.tensor([0.5, 0.0]))).backward()
    assert logits.grad[0].abs().max() > 0
    assert logits.grad[1].abs().max() == 0
