"""Membership inference: was this image trained on? From released latents, and from a network's outputs."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mucald import optimisers, randomness
from mucald_studies.attacks.harness.base import Knowledge, MemberScores, attack
from mucald_studies.attacks.harness.subject import Samples
from mucald_studies.attacks.harness.view import View

CALIBRATION_RATE = 0.01
REFERENCES = 4
_SMALLEST = 1e-6
_OF_OUTPUTS = (Knowledge.CANDIDATES, Knowledge.OUTPUTS, Knowledge.AUXILIARY)


@attack("membership.latents", Knowledge.CANDIDATES, Knowledge.FRONT_END, Knowledge.AUXILIARY)
def from_latents(view: View) -> MemberScores:
    """Match: does the candidate's own latent show up among those that crossed in training?

    The candidates' clean latents are correlated with every training sample's average release; the threshold
    is calibrated on auxiliary images.
    """
    sent = view.released("train")
    epochs = sent.epochs.unique()
    averages = sent.within(epochs[len(epochs) // 2 :]).averaged(sent.rows.unique())
    known = view.front_end(view.auxiliary().inputs)
    mean = known.mean(dim=0)
    crossed = normalize((averages - averages.mean(dim=0)).flatten(1))

    def score(latents: Tensor) -> Tensor:
        return (normalize((latents - mean).flatten(1)) @ crossed.T).amax(dim=1)

    threshold = torch.quantile(score(known), 1 - CALIBRATION_RATE)
    return MemberScores(score(view.front_end(view.candidates().inputs)), float(threshold))


@attack("membership.loss", *_OF_OUTPUTS, reads_messages=False)
def from_loss(view: View) -> MemberScores:
    """Score by the model's negative loss, higher where it was trained on (Yeom et al., CSF 2018)."""
    pair = view.candidates(), view.auxiliary()
    scores, known = (-per_sample_loss(view.outputs(each.inputs), each.targets) for each in pair)
    return MemberScores(scores, float(torch.quantile(known, 1 - CALIBRATION_RATE)))


@attack("membership.lira", *_OF_OUTPUTS, reads_messages=False)
def likelihood(view: View) -> MemberScores:
    """Set the same loss against that of models that cannot have seen the candidate.

    LiRA (Carlini et al., S&P 2022) in its offline form with few references: a one-sided Gaussian test of the
    logit-scaled confidence. The references are networks of the job's architecture in one piece, each trained
    on a drawn half of the attacker's images, or on as many as the site trained on if that is fewer.
    """
    candidates, known = view.candidates(), view.auxiliary()
    target = _confidence(view.outputs(candidates.inputs), candidates.targets)
    references = []
    for number in range(REFERENCES):
        model = train_reference(view, known, number)
        references.append(_confidence(_predict(model, candidates.inputs), candidates.targets))
    out = torch.stack(references)
    # With few references one variance for all candidates is steadier than one for each (ibid., §VI-C).
    deviation = (out - out.mean(dim=0)).square().mean().sqrt().clamp(min=_SMALLEST)
    return MemberScores((target - out.mean(dim=0)) / deviation)


@attack("membership.synthetic", Knowledge.CANDIDATES, Knowledge.AUXILIARY, reads_messages=False)
def from_synthetic(view: View) -> MemberScores:
    """Score by the distance to the nearest synthetic sample of the class, less that to the attacker's own.

    The distance alone is smallest for samples that are usual anyway, see Chen et al., "GAN-Leaks" (CCS 2020),
    calibrated attack.
    """
    candidates, known, drawn = view.candidates(), view.auxiliary(), view.synthetic()
    unlike = candidates.targets[:, None] != drawn.targets[None, :]
    near = torch.cdist(candidates.inputs, drawn.inputs).masked_fill(unlike, torch.inf).amin(dim=1)
    return MemberScores(torch.cdist(candidates.inputs, known.inputs).amin(dim=1) - near)


def per_sample_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy (N,) of logits (N, C, …); of an image's pixels their mean."""
    return cross_entropy(logits, targets, reduction="none").reshape(len(targets), -1).mean(dim=1)


def _confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log(p / (1 − p)) with p the geometric mean of the right classes' probabilities."""
    loss = per_sample_loss(logits, targets).clamp(min=_SMALLEST)
    return -loss - torch.log(-torch.expm1(-loss))


def train_reference(view: View, known: Samples, number: int) -> nn.Module:
    """Train a reference on drawn samples of the attacker's, for as many epochs as the site trained."""
    recipe = view.recipe
    with randomness.seeded_initialisation(*view.key("reference", number)):
        model = recipe.build()
    count = min(len(known) // 2, recipe.n_train)
    chosen = randomness.generator(*view.key("half", number)).permutation(len(known))[:count]
    optimiser = optimisers.AdamW(model.parameters(), lr=recipe.learning_rate)
    steps = recipe.epochs * math.ceil(len(chosen) / recipe.batch_size)
    for step in range(min(steps, view.budget.max_steps)):
        draws = randomness.generator(*view.key("reference", number, step))
        rows = chosen[draws.integers(len(chosen), size=recipe.batch_size)]
        optimiser.zero_grad(set_to_none=True)
        recipe.loss(model(known.inputs[rows]), known.targets[rows]).backward()
        optimiser.step()
    return model.eval()


@torch.no_grad()
def _predict(model: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([model(part) for part in inputs.split(32)])
