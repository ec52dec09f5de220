"""Attacks on what really crossed the wire, each with what its attacker may know (docs/attacks.md).

They work on a recorded run. An attack is one small file with a class of :class:`Attack`, and one entry below.
"""

from mucald.config.schema import closest
from mucald.errors import AttackError
from mucald_studies.attacks.averaging import AllEpochs, LastEpoch, SecondHalf
from mucald_studies.attacks.decoder import KnownFrontEnd, LeakedPairs, ServersDenoiser
from mucald_studies.attacks.differencing import Difference, LatentChange, RepeatedNoise
from mucald_studies.attacks.domain import Denoised, Features, Release
from mucald_studies.attacks.harness.base import Attack
from mucald_studies.attacks.hijack import Hijack
from mucald_studies.attacks.mask_inference import (
    FromAverageFeatures,
    FromAverageGradient,
    FromFeatures,
    FromGradient,
)
from mucald_studies.attacks.membership import FromLatents, FromLoss, Likelihood
from mucald_studies.attacks.oracle import Oracle
from mucald_studies.attacks.substitute import SubstituteFrontEnd

_ATTACKS: tuple[type[Attack], ...] = (
    KnownFrontEnd,
    LeakedPairs,
    SubstituteFrontEnd,
    ServersDenoiser,
    LastEpoch,
    SecondHalf,
    AllEpochs,
    LatentChange,
    RepeatedNoise,
    Difference,
    Oracle,
    FromFeatures,
    FromAverageFeatures,
    FromGradient,
    FromAverageGradient,
    FromLatents,
    FromLoss,
    Likelihood,
    Release,
    Denoised,
    Features,
    Hijack,
)

ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ATTACKS}


def choose_attacks(names: list[str]) -> list[Attack]:
    """Return the attacks of these names; the name of a family, such as ``decoder``, stands for all of it.

    Raises:
        AttackError: a name is unknown; the message tells the closest and all known ones.
    """
    chosen: dict[str, Attack] = {}
    for name in names:
        matching = [key for key in ATTACKS if name in (key, key.split(".")[0], "all")]
        if not matching:
            families = list(dict.fromkeys(key.split(".")[0] for key in ATTACKS))
            hint = closest(name, [*ATTACKS, *families])
            raise AttackError(f"unknown attack '{name}'{hint} (known: all, {', '.join(ATTACKS)})")
        chosen |= {key: ATTACKS[key]() for key in matching}
    return list(chosen.values())
