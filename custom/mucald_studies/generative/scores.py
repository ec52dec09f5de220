"""What is measured of a synthetic set of a federation."""

import torch
from torch import Tensor

from mucald.methods.generative.algorithms.base import Samples
from mucald_studies.generative.federation import Federation
from mucald_studies.generative.fidelity import mmd, precision_recall, sinkhorn, two_sample_test
from mucald_studies.generative.leakage import nearest_neighbour_leakage

MOST = 350
"""Samples of a set that are compared; costs grow with the square."""


def fidelity(federation: Federation, synthetic: Samples) -> dict[str, float]:
    """Return how near a synthetic set comes to the training samples of all sites, evenly over classes."""
    real, drawn = _evenly(federation.pooled("train")), _some(synthetic.x)
    precision, recall = precision_recall(real, drawn)
    return {
        "wasserstein": sinkhorn(real, drawn),
        "mmd": mmd(real, drawn),
        "precision": precision,
        "recall": recall,
        "two_sample": two_sample_test(real, drawn),
        "other_label": other_label(federation, synthetic),
    }


def leakage(federation: Federation, synthetic: Samples) -> dict[str, float]:
    """Return what a synthetic set tells of who was trained on."""
    train, test = (_some(federation.pooled(name).x) for name in ("train", "test"))
    return {"nearest_neighbour": nearest_neighbour_leakage(train, test, synthetic.x)}


def other_label(federation: Federation, synthetic: Samples) -> float:
    """Return the balanced accuracy of a second task on the same set: which half of the classes it is."""
    half = federation.n_classes // 2
    coarse = Samples(synthetic.x, (synthetic.labels >= half).long())
    classifier, test = federation.classifier(coarse), federation.pooled("test")
    predicted = classifier(test.x)[:, :2].argmax(dim=1)
    wanted = (test.labels >= half).long()
    recalls = [float((predicted[wanted == label] == label).double().mean()) for label in (0, 1)]
    return sum(recalls) / 2


def _some(x: Tensor) -> Tensor:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[:MOST]]


def _evenly(samples: Samples) -> Tensor:
    """Return equally many samples of each class, as far as there are."""
    draws, found = torch.Generator().manual_seed(0), []
    classes = samples.labels.unique()
    for label in classes:
        own = samples.x[samples.labels == label]
        found.append(own[torch.randperm(len(own), generator=draws)[: MOST // len(classes)]])
    return torch.cat(found)
