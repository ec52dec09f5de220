"""The order of the phases of a site's task, and those that a job has no use for."""

from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.wire.messages import Message, Phase

_ORDER = {
    Phase.FETCH_FRONT_END: 0,
    Phase.VALIDATE: 1,
    Phase.VALIDATE_RELEASED: 1,
    Phase.REPORT: 2,
    Phase.RELEASE: 3,
    Phase.TRAIN_HEAD: 4,
    Phase.TRAIN_FORWARD: 4,
    Phase.TRAIN_FORWARD_WITH_NOISE: 4,
    Phase.TRAIN_FORWARD_RELEASED: 4,
    Phase.TRAIN_BACKWARD: 4,
    Phase.TRAIN_BACKWARD_RELEASED: 4,
    Phase.GIVE_FRONT_END: 5,
    Phase.TEST: 6,
}
_BACKWARD = (Phase.TRAIN_BACKWARD, Phase.TRAIN_BACKWARD_RELEASED)
_WITH_LATENT = {Phase.TRAIN_FORWARD, Phase.TRAIN_FORWARD_WITH_NOISE, Phase.TRAIN_BACKWARD}
_WITH_INDICES = {
    Phase.RELEASE,
    Phase.VALIDATE_RELEASED,
    Phase.TRAIN_FORWARD_RELEASED,
    Phase.TRAIN_BACKWARD_RELEASED,
}


def phases_without_use(config: SplitConfig) -> dict[Phase, str]:
    """Return the phases that the job has no use for, and what of the job they do not fit."""
    supervision, algorithm = config.crdm.supervision, algorithm_of(config)
    wants_noise = supervision == "epsilon" and config.release.noised
    refused = {
        Phase.TRAIN_FORWARD if wants_noise else Phase.TRAIN_FORWARD_WITH_NOISE: f"supervision {supervision}"
    }
    if not algorithm.shares_front_end:
        phases = (Phase.FETCH_FRONT_END, Phase.GIVE_FRONT_END)
        refused |= dict.fromkeys(phases, f"algorithm {config.algorithm.name}")
    once = config.release.mode == "once"
    refused |= dict.fromkeys(_WITH_LATENT if once else _WITH_INDICES, f"release.mode {config.release.mode}")
    if "head" not in algorithm.parts(config.training.local_epochs):
        refused[Phase.TRAIN_HEAD] = f"algorithm {config.algorithm.name}"
    return refused


def position_of(message: Message, depth: int) -> tuple[int, int, int]:
    """Return where in the protocol a message stands; it may only move forward, see :class:`.Pipeline`."""
    step = 2 * message.step + 1 if message.phase in _BACKWARD else 2 * (message.step + 1 - depth)
    return message.round, _ORDER[message.phase], step
