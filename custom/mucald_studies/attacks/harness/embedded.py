"""A site of a run over embeddings, as the evaluation knows it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mucald.data.embeddings.loader import EmbeddingSplit, phantom_split
from mucald.data.site_data import DataSplit, SiteData
from mucald.errors import AttackError
from mucald.methods.generative.algorithms import base, make_algorithm
from mucald.methods.generative.algorithms.fedavg import ClassifierLearner
from mucald.methods.generative.build import build_learner
from mucald.methods.generative.downstream import Classifiers, train_classifier
from mucald.methods.generative.features import features
from mucald.methods.generative.nets.layers import chain
from mucald.methods.generative.synthesis import synthetic_samples
from mucald_studies.attacks.harness.subject import KeptSubject, Key, Recipe, Samples
from mucald_studies.shared_run import RESULTS, GenerativeRun


class EmbeddedSubject(KeptSubject):
    """See :class:`.Subject`. The attacker has the weights that all share, and what follows from them alone.

    Of a generator that is a synthetic set, and a classifier trained on it; or the shared classifier.

    Args:
        run: what the server has of it.
        site, home, auxiliary_home: those of a subject.

    Raises:
        AttackError: nothing is shared.
    """

    def __init__(self, run: GenerativeRun, site: str, home: Path, auxiliary_home: Path | None):
        super().__init__(run, site, home, auxiliary_home)
        self._run, self._algorithm = run, make_algorithm(run.config.algorithm)
        if self._algorithm.serves == "nothing":
            raise AttackError(
                f"{run.run_folder / RESULTS}: the algorithm '{run.config.algorithm.name}' shares no weights; "
                "there is nothing to attack"
            )

    @property
    def recipe(self) -> Recipe:
        """How a classifier is trained: on all samples at once."""
        downstream, count = self._run.config.downstream, len(self.data.train)
        dimension, n_classes = self._run.config.features.dimension, self.task.n_classes
        return Recipe(
            lambda: chain(dimension, downstream.hidden, n_classes),
            n_train=count,
            epochs=downstream.epochs,
            batch_size=count,
            learning_rate=downstream.learning_rate,
            loss=nn.CrossEntropyLoss(),
        )

    @cached_property
    def synthetic(self) -> Samples:
        """What the shared generator draws for the site; the job's seed decides it, so the server can draw it.

        Raises:
            AttackError: what is shared draws nothing.
        """
        if self._algorithm.serves != "generator":
            raise AttackError(
                f"the algorithm '{self._run.config.algorithm.name}' shares a classifier, which draws nothing"
            )
        config = self._run.config
        drawn = synthetic_samples(self._algorithm, self._learner, self.task.n_classes, config, self.site)
        return Samples(drawn.x, drawn.labels)

    @cached_property
    def classifier(self) -> nn.Module:
        """The shared classifier, or the one that every site trains on its synthetic set."""
        if isinstance(self._learner, ClassifierLearner):
            return self._learner.shared_classifier()
        config, drawn = self._run.config, self.synthetic
        samples = base.Samples(drawn.inputs, drawn.targets)
        return train_classifier(samples, self.task.n_classes, config.downstream, config.seed)

    @torch.no_grad()
    def outputs(self, inputs: Tensor, key: Key) -> Tensor:  # noqa: ARG002 - nothing is drawn
        """Return the logits (N, C) of :attr:`classifier`."""
        return self.classifier(inputs)

    def samples(self, split: DataSplit) -> Samples:
        """Return the features and classes of a split."""
        assert isinstance(split, EmbeddingSplit)
        return Samples(features(split, self._run.config.features), split.content.labels)

    def phantoms(self, draws: Sequence[np.random.Generator]) -> Samples:
        """Return features of new phantoms, whose classes are drawn from those of the site's training."""
        assert isinstance(self.data.train, EmbeddingSplit)
        known = self.data.train.content.labels
        labels = [int(known[rng.integers(len(known))]) for rng in draws]
        config = self._run.config
        scanner = config.site(self.site).scanner
        return self.samples(phantom_split(self.task, labels, config.data.image_size, scanner, draws))

    @cached_property
    def _learner(self) -> base.Learner:
        learner, weights = build_learner(self._run.config, self.task.name), self._run.weights(self.site)
        assert learner is not None
        with torch.no_grad():
            for name, tensor in learner.shared().items():
                tensor.copy_(weights[name])
        return learner

    def error_of_test(self, data: SiteData, told: Mapping[str, Any]) -> float:
        """Return the difference of the shared classifier's balanced accuracy."""
        test = self.samples(data.test)
        score = Classifiers(None, self.classifier).scores(base.Samples(test.inputs, test.targets), 0.0)
        return abs(score - told["classifiers"]["shared"])
