"""Attacks on what really crossed the wire, each with what its attacker may know (docs/attacks.md).

They work on a recorded run of split learning, or on what sites share where weights travel. An attack is one
small function, see :class:`.Attack`, and one entry below.
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

_ATTACKS = (
    decoder.known_front_end,
    decoder.leaked_pairs,
    substitute.substitute_front_end,
    decoder.servers_denoiser,
    averaging.last_epoch,
    averaging.second_half,
    averaging.all_epochs,
    differencing.latent_change,
    differencing.repeated_noise,
    differencing.difference,
    oracle.oracle,
    mask_inference.from_features,
    mask_inference.from_average_features,
    mask_inference.from_gradient,
    mask_inference.from_average_gradient,
    membership.from_latents,
    membership.from_loss,
    membership.likelihood,
    membership.from_synthetic,
    domain.release,
    domain.denoised,
    domain.features,
    hijack.hijack,
)

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ATTACKS}


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
        chosen |= {key: ATTACKS[key] for key in matching}
    return list(chosen.values())
