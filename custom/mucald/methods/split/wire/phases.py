"""The protocol of split learning in two tables: what can cross, and the steps in which it does.

Site, server and recorder read both. Images, labels, clean latents, seeds and file names are no fields, so no
message can hold them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.wire.frame import Message, PhaseSpec, ProtocolField, ProtocolPhase

Shape = Literal["latents", "samples", "proxies", "scores", "number"]
"""(B, L, h, w), (B,), (B, n), (2 K,): Dice and loss with each of K states, and (1,)."""

Need = Literal["fresh", "once", "noise given", "noise kept", "shared front end", "head epochs", "hand-over"]
"""What a step needs of the job: a mode of release, a supervision, or an algorithm."""

_REAL = ("float32", "bfloat16", "int8", "int4")


class Field(ProtocolField):
    """Everything that can cross: number, payload types, and the shape that the server asks of it.

    The weights' and the features' gradient's shape is for those to check who know it.
    """

    shape: Shape | None

    def __new__(
        cls, number: int, types: Iterable[str], shape: Shape | None = None, adds_up: bool = False
    ) -> "Field":
        """Make a row of the table."""
        field = int.__new__(cls, number)
        field._value_, field.types = number, frozenset(types)
        field.shape, field.adds_up = shape, adds_up
        return field

    LATENT = 1, _REAL, "latents"
    LEVEL = 2, ("int32",), "samples"
    PROXIES = 3, ("float32",), "proxies"
    PROXY_MASK = 4, ("uint8",), "proxies"
    FEATURES = 5, _REAL
    FEATURE_GRADIENT = 6, _REAL, None, True
    LATENT_GRADIENT = 7, _REAL, None, True
    COUNTERS = 8, ("float64",), "scores"
    # Under epsilon supervision alone.
    NOISE = 9, ("float32",), "latents"
    # Of front ends that an algorithm shares, and of middle networks that are handed over.
    WEIGHTS = 10, ("float32",)
    # Numbers of samples that have been released once.
    INDICES = 11, ("int32",), "samples"
    # How many training steps the site's round has, where learning rates change from step to step.
    STEPS = 12, ("int32",), "number"


@dataclass(frozen=True)
class SplitPhaseSpec(PhaseSpec):
    """What there is to know of a step beside what its messages hold.

    Args:
        place: where in a site's task it comes; a task only moves forward.
        handler: the method of :class:`.SplitServer` that answers it.
        needs: what the job must have; without any of it the server refuses the step.
        backward: whether it brings the gradient of a step that has begun.
        purpose: names the draws of an evaluation.
        data_split: where its samples belong that are released once; None if they are not kept.
    """

    place: int
    handler: str
    needs: tuple[Need, ...] = ()
    backward: bool = False
    purpose: str = ""
    data_split: Literal["train", "validation"] | None = None


_NOTHING: frozenset[Field] = frozenset()
_LATENT = frozenset({Field.LATENT, Field.LEVEL})
_PROXIES = frozenset({Field.PROXIES, Field.PROXY_MASK})
_INDICES = frozenset({Field.INDICES})
_STEPS = frozenset({Field.STEPS})
_FEATURES = frozenset({Field.FEATURES})
_GRADIENT = frozenset({Field.FEATURE_GRADIENT})
_COUNTERS = frozenset({Field.COUNTERS})
_WEIGHTS = frozenset({Field.WEIGHTS})

_forward = partial(SplitPhaseSpec, reply=_FEATURES, place=4, handler="train_forward", training=True)
_backward = partial(
    SplitPhaseSpec, _GRADIENT, place=4, handler="train_backward", training=True, backward=True
)
_evaluation = partial(SplitPhaseSpec, reply=_FEATURES, handler="evaluate")
_validation = partial(_evaluation, place=1, purpose="validation", data_split="validation")


class Phase(ProtocolPhase):
    """The steps of the protocol."""

    spec: SplitPhaseSpec

    def __new__(cls, number: int, spec: SplitPhaseSpec) -> "Phase":
        """Make a row of the table."""
        phase = int.__new__(cls, number)
        phase._value_, phase.spec = number, spec
        return phase

    VALIDATE = 1, _validation(_LATENT, optional=_PROXIES)
    REPORT = 2, SplitPhaseSpec(_COUNTERS, _COUNTERS, place=2, handler="report")
    TRAIN_FORWARD = 3, _forward(_LATENT, optional=_PROXIES | _STEPS, needs=("fresh", "noise kept"))
    TRAIN_FORWARD_WITH_NOISE = (
        4,
        _forward(_LATENT | {Field.NOISE}, optional=_PROXIES | _STEPS, needs=("fresh", "noise given")),
    )
    TRAIN_BACKWARD = 5, _backward(frozenset({Field.LATENT_GRADIENT}), needs=("fresh",))
    TEST = 6, SplitPhaseSpec(_LATENT, _FEATURES, place=6, handler="test", purpose="test")
    FETCH_FRONT_END = (
        7,
        SplitPhaseSpec(_NOTHING, _WEIGHTS, place=0, handler="fetch_front_end", needs=("shared front end",)),
    )
    GIVE_FRONT_END = (
        8,
        SplitPhaseSpec(_WEIGHTS, _NOTHING, place=5, handler="give_front_end", needs=("shared front end",)),
    )
    TRAIN_HEAD = 9, _evaluation(_LATENT, place=4, training=True, purpose="head", needs=("head epochs",))
    RELEASE = (
        10,
        SplitPhaseSpec(
            _LATENT,
            _NOTHING,
            optional=_PROXIES,
            place=3,
            handler="release",
            training=True,
            needs=("once",),
            data_split="train",
        ),
    )
    VALIDATE_RELEASED = 11, _validation(_INDICES, needs=("once",))
    TRAIN_FORWARD_RELEASED = 12, _forward(_INDICES, optional=_STEPS, needs=("once",), data_split="train")
    # The front end is frozen, so ∂L/∂x_t is of no use to the site: nothing comes back.
    TRAIN_BACKWARD_RELEASED = 13, _backward(_NOTHING, needs=("once",))
    FETCH_MIDDLE = (
        14,
        SplitPhaseSpec(_NOTHING, _WEIGHTS, place=7, handler="fetch_middle", needs=("hand-over",)),
    )


def phases_without_use(config: SplitConfig, algorithm: Algorithm) -> dict[Phase, str]:
    """Return the phases that the job has no use for, and what of the job they do not fit."""
    mode, supervision = config.release.mode, config.crdm.supervision
    gives_noise = supervision == "epsilon" and config.release.noised
    named = f"algorithm {config.algorithm.name}"
    met: dict[Need, tuple[bool, str]] = {
        "fresh": (mode == "fresh", f"release.mode {mode}"),
        "once": (mode == "once", f"release.mode {mode}"),
        "noise given": (gives_noise, f"supervision {supervision}"),
        "noise kept": (not gives_noise, f"supervision {supervision}"),
        "shared front end": (algorithm.shares_front_end, named),
        "hand-over": (config.handover.epochs > 0, "handover.epochs 0"),
        "head epochs": ("head" in algorithm.parts(config.training.local_epochs), named),
    }
    unmet = {phase: [met[need][1] for need in phase.spec.needs if not met[need][0]] for phase in Phase}
    return {phase: reasons[0] for phase, reasons in unmet.items() if reasons}


def position_of(message: Message[Phase, Field], depth: int) -> tuple[int, int, int]:
    """Return where in the protocol a message stands; it may only move forward, see :class:`.Pipeline`."""
    spec = message.phase.spec
    step = 2 * message.step + 1 if spec.backward else 2 * (message.step + 1 - depth)
    return message.round, spec.place, step
