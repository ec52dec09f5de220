"""The model as the run's own test computed it: the site's noise, batches and wire formats.

Given the test images in their order, it returns the test's predictions to the bit. It is a check, not the
way to segment new images: a batch's noise is drawn at once, so each mask depends a little on its neighbours.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mucald.data.loading import phantom_secret
from mucald.data.site_file import SITE_FILE, has_site_file, noise_secret, read_site_file
from mucald.federation.method import TrainedModel
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.shared_networks import CopyPlan
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.site.exchange import Exchange
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments
from mucald.methods.split.wire.messages import Phase


class TestReplay:
    """Site and server of a run's test in one process.

    Args:
        model: the trained weights and their job; not one that was trained on pooled data.
        home: the site's own folder, which holds its noise secret. A site without ``site.json`` there is one
            that drew phantoms.

    Raises:
        DataError: the site's file is wrong.
    """

    # Its name begins as pytest's classes do.
    __test__ = False

    def __init__(self, model: TrainedModel, home: Path):
        config, site, device = model.config, model.site, torch.device("cpu")
        assert isinstance(config, SplitConfig)
        secret = phantom_secret(config.seed)
        if has_site_file(home):
            secret = noise_secret(read_site_file(home / SITE_FILE), home)
        self._release = Release(config.release, secret, site)
        algorithm = algorithm_of(config)
        self._segments = SiteSegments(config, algorithm, site, model.task.n_classes, self._release, device)
        self._segments.best = model.site_weights
        self._segments.load_best()
        plan, rounds = CopyPlan(config, algorithm, False, device), config.training.rounds
        copy = SiteCopy(site, plan, home)
        copy.segments.load_state_dict(model.server_weights)
        plan.shared.begin_round(rounds, ())
        server = SplitServer(config, algorithm, {site: copy}, [])
        server.open_round(rounds, [site])
        self._exchange = Exchange(partial(server.handle, site), config, site, rounds)
        self._round, self._step = rounds, 0

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (B, C, S, S) for the next batch (B, 3, S, S); B is at most the job's batch size."""
        key = (self._round, self._step, "test")
        forward = partial(self._exchange.evaluate, Phase.TEST, self._step)
        logits, _ = self._segments.predict(images, key, forward)
        self._step += 1
        return logits
