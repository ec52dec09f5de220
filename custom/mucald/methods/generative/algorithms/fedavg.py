"""A classifier of embeddings that sites train together; with noise it is DP-FedAvg."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mucald import randomness
from mucald.methods.generative.algorithms.base import Algorithm, Learner, Samples
from mucald.methods.generative.config import OptimiserConfig
from mucald.methods.generative.nets.layers import chain


class ClassifierLearner(Learner):
    """Trains a classifier by cross-entropy."""

    def losses(self, samples: Samples, key: randomness.Key) -> Tensor:
        """Return the cross-entropy of every sample."""
        return F.cross_entropy(self.shared_classifier()(samples.x), samples.labels, reduction="none")

    def shared_classifier(self) -> nn.Sequential:
        """Return what gives the logits (B, K) of features (B, k), as it is now: ``classifier.…``."""
        assert isinstance(self.module, nn.ModuleDict)
        return nn.Sequential(OrderedDict(self.module.items()))


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """FedAvg of the classifier (McMahan et al., AISTATS 2017), tested alone."""

    part: ClassVar[str] = "classifier"
    loss: ClassVar[str] = "classification"
    serves: ClassVar[Literal["classifier"]] = "classifier"
    mixes: ClassVar[bool] = False

    def learner(
        self, dimension: int, n_classes: int, hidden: Sequence[int], config: OptimiserConfig
    ) -> Learner:
        """Build the classifier."""
        return ClassifierLearner(classifier_module(dimension, n_classes, hidden), ("classifier",), config)


def classifier_module(dimension: int, n_classes: int, hidden: Sequence[int]) -> nn.ModuleDict:
    """Return a classifier of features as what a learner trains."""
    return nn.ModuleDict({"classifier": chain(dimension, hidden, n_classes)})
