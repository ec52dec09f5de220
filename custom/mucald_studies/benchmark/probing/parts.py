"""The parts of a training step: which function of the package belongs to which."""

from collections.abc import Sequence
from typing import Any

import torch

from mucald import optimisers, randomness
from mucald.losses.segmentation import SegmentationLoss
from mucald.methods.split.model.crdm.module import CRDM
from mucald.methods.split.model.daca import FeatureBuffer
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.site.fresh import FreshReleases
from mucald.methods.split.site.method import SplitSite
from mucald.methods.split.site.once import SingleReleases
from mucald.methods.split.site.pipeline import Pipeline
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments
from mucald.wire import frame
from mucald.wire.frame import Message
from mucald.wire.link import Link
from mucald_studies.benchmark.probing.probe import Part

SITE, SERVER = "site", "server"
BESIDE = "beside the site"
"""A site's messages that a thread of their own sends: their time is not the step's."""
AHEAD = "data, made ahead"
WAIT, WAIT_FOR_CORE = "wait for the server", "wait for a core"


def _always(*_: Any) -> bool:
    return True


def _in_training(*arguments: Any) -> bool:
    """Tell from the arguments of ``SplitServer._answer`` whether it answers a training step."""
    return any(isinstance(argument, Message) and argument.phase.spec.training for argument in arguments)


PARTS: Sequence[Part] = (
    Part(SplitSite, "_train", "schedule", SITE, root=True, keep=_always),
    Part(FreshReleases, "_step", "other", counts=True),
    Part(SingleReleases, "_step", "other", counts=True),
    # These are made in a thread of their own while a step is under way.
    Part(FreshReleases, "_batch", AHEAD, SITE, root=True, keep=_always),
    Part(SingleReleases, "_batch", AHEAD, SITE, root=True, keep=_always),
    Part(SiteSegments, "_released", "front end"),
    Part(Release, "latent", "release"),
    Part(SiteSegments, "_logits", "back end"),
    Part(SegmentationLoss, "terms", "loss"),
    Part(SiteSegments, "_update", "gradient norms, clipping"),
    Part(Link, "request", WAIT),
    # Under release.mode "once" a thread sends the messages, and the site waits for that.
    Part(Pipeline, "_wait", WAIT),
    Part(Pipeline, "_talk", "schedule", BESIDE, root=True, keep=_always),
    Part(SplitServer, "handle", "lock, checks", SERVER, root=True),
    Part(SplitServer, "_wait_for_core", WAIT_FOR_CORE),
    Part(SplitServer, "_answer", "lock, checks", keep=_in_training),
    Part(ServerSegments, "forward", "middle network"),
    Part(CRDM, "forward", "CRDM"),
    Part(ServerSegments, "diffusion_losses", "CRDM losses"),
    Part(ServerSegments, "causal_losses", "CRDM losses"),
    Part(ServerSegments, "adversarial_losses", "DACA"),
    Part(FeatureBuffer, "append", "DACA"),
    Part(SiteCopy, "train_forward", "sum of losses"),
    Part(SiteCopy, "train_backward", "gradient norms, clipping"),
    # These belong to whichever side calls them.
    Part(frame, "decode", "decode"),
    Part(Message, "encode", "encode"),
    Part(randomness, "normal", "noise"),
    Part(torch.autograd, "backward", "backward"),
    Part(optimisers.AdamW, "step", "optimiser"),
)
