"""Attacks on what really crossed the wire, each with what its attacker may know (docs/attacks.md).

They work on a recorded run. An attack is one small file with a class of :class:`Attack`, and one entry below.
"""

from mucald.config.schema import closest
from mucald.errors import AttackError
from mucald_studies.attacks import (
    averaging,
    decoder,
    differencing,
    domain,
    hijack,
    mask_inference,
    membership,
    oracle,
    substitute,
)
from mucald_studies.attacks.harness.base import Attack

_ATTACKS: tuple[type[Attack], ...] = (
    decoder.KnownFrontEnd,
    decoder.LeakedPairs,
    substitute.SubstituteFrontEnd,
    decoder.ServersDenoiser,
    averaging.LastEpoch,
    averaging.SecondHalf,
    averaging.AllEpochs,
    differencing.LatentChange,
    differencing.RepeatedNoise,
    differencing.Difference,
    oracle.Oracle,
    mask_inference.FromFeatures,
    mask_inference.FromAverageFeatures,
    mask_inference.FromGradient,
    mask_inference.FromAverageGradient,
    membership.FromLatents,
    membership.FromLoss,
    membership.Likelihood,
    domain.Release,
    domain.Denoised,
    domain.Features,
    hijack.Hijack,
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
