"""A site of a run in which weights travel, as the evaluation knows it."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mucald.config.common import NetworkConfig
from mucald.data.site_data import SiteData
from mucald.errors import AttackError
from mucald.losses.segmentation import SegmentationLoss
from mucald.metrics.scoring import SCORERS
from mucald.nets.whole import Network, SplitInOne
from mucald_studies.attacks.harness.subject import KeptSubject, Key, Recipe
from mucald_studies.shared_run import SharedRun


class SharedSubject(KeptSubject):
    """See :class:`.Subject`. The attacker asks the network that the server can put together, and no other.

    Args:
        run: what the server has of it.
        site, home, auxiliary_home: those of a subject.

    Raises:
        AttackError: the site's samples are no images with masks.
    """

    def __init__(self, run: SharedRun, site: str, home: Path, auxiliary_home: Path | None):
        super().__init__(run, site, home, auxiliary_home)
        self._run, network = run, run.config.network
        if not isinstance(network, NetworkConfig) or (self.task.input, self.task.target) != ("image", "mask"):
            raise AttackError(
                f"site '{site}' has the task '{self.task.name}' ({self.task.input}, {self.task.target}) and "
                f"the backbone '{network.backbone}'; attacks are for images with masks"
            )
        self._plan = SplitInOne(network, run.config.clip)

    @property
    def recipe(self) -> Recipe:
        """How the whole network was trained."""
        config = self._run.config
        return Recipe(
            self._untrained,
            n_train=len(self.data.train),
            epochs=config.training.rounds * config.training.local_epochs,
            batch_size=config.training.batch_size,
            learning_rate=config.optimiser.learning_rate,
            loss=SegmentationLoss(self.task.n_classes, config.cross_entropy),
        )

    @cached_property
    def network(self) -> nn.Module:
        """The site's network from what the server has of it: the shared weights after the last round.

        Raises:
            AttackError: it lacks some; the message tells which, and why.
        """
        network, shared = self._untrained(), self._run.weights_of(self.site)
        tensors = network.state_dict()
        # Counters of batches do not travel, and predict nothing.
        missing = [name for name, t in tensors.items() if t.is_floating_point() and name not in shared]
        if missing:
            raise AttackError(
                f"the server cannot put the network of site '{self.site}' together: {self._why(missing)}"
            )
        network.load_state_dict(tensors | shared)
        return network.eval().requires_grad_(False)

    @torch.no_grad()
    def outputs(self, images: Tensor, key: Key) -> Tensor:  # noqa: ARG002 - nothing is drawn
        """Return what the server's own copy says."""
        return torch.cat([self.network(part) for part in images.split(32)])

    def _untrained(self) -> Network:
        plan = self._plan
        return plan.whole({name: plan.part(name, self.task) for name in plan.parts}, self.task)

    def _why(self, missing: list[str]) -> str:
        config = self._run.config
        parts = [part for part in config.parts if part not in config.parts_of(self.site)]
        reasons = []
        if parts:
            alone = bool(config.shared_in_group) and not config.group(self.site)
            because = ", as it is alone in its group" if alone else ""
            reasons.append(f"{_listed(parts)} stay{'s' * (len(parts) == 1)} at the site{because}")
        kept = [name for name in missing if name.partition(".")[0] not in parts]
        if kept:
            reasons.append(
                f"the algorithm '{config.algorithm.name}' keeps {len(kept)} tensors at the site, "
                f"such as {kept[0]}"
            )
        return "; ".join(reasons)

    @torch.no_grad()
    def error_of_test(self, data: SiteData, told: Mapping[str, Any]) -> float:
        """Return the mean difference of the Dice of the site's own model, image by image."""
        model, test, scorer = self.model.network(), data.test.whole(), SCORERS["mask"]
        logits = torch.cat([model(part) for part in test.inputs.split(32)])
        scores = scorer.per_image([scorer.quick(logits, test.targets, self.task.n_classes)])
        return _difference(scores, told["dice_per_image"])


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _difference(ours: list[float | None], theirs: list[float | None]) -> float:
    """Return the mean difference between scores by image; those of images without any class are None."""
    pairs = list(zip(ours, theirs, strict=True))
    if any((one is None) != (other is None) for one, other in pairs):
        return float("inf")
    both = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return sum(both) / max(1, len(both))
