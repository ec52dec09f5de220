"""A site's policy, ``<home>/policy.json``: what it lets out, whatever a job asks.

The hospital writes it, and the site reads it before it touches an image. It is total: a job that discloses
anything that the policy does not name, or more than it allows, is refused before anything leaves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mucald.config.common import require
from mucald.config.schema import closest, parse, read_json
from mucald.data.site_file import SITE_FILE
from mucald.errors import ConfigError, PolicyError
from mucald.privacy.disclosure import KINDS, WEIGHT_PARTS, Disclosure, Fact

POLICY_FILE = "policy.json"

Limits = dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """The content of ``policy.json``; every field is one of its keys, and all must be there.

    Args:
        discloses: what may leave, by kind of disclosure, with all limits that the kind has
            (:data:`mucald.privacy.disclosure.KINDS`). A kind that is not named may not leave.
        tensorboard_images: allow pictures in the site's own run folder, if ``site.json`` wants them too.
        recording: allow that the site's own messages are recorded.

    Raises:
        ValueError: a kind or limit is unknown or missing, or has an impossible value.
    """

    discloses: dict[str, Limits]
    tensorboard_images: bool
    recording: bool

    def __post_init__(self) -> None:
        for kind, limits in self.discloses.items():
            require(kind in KINDS, f"'discloses' names the unknown kind '{kind}'{closest(kind, list(KINDS))}")
            _check_limits(kind, limits)

    def limit(self, kind: str, name: str) -> Any:
        """Return a limit; None where there is none, or where the kind may not leave at all."""
        return self.discloses.get(kind, {}).get(name)


def _check_limits(kind: str, limits: Any) -> None:
    where, known = f"discloses.{kind}", KINDS[kind].limits
    require(isinstance(limits, dict), f"'{where}' must be an object of its limits")
    for name in limits:
        require(name in known, f"unknown key '{where}.{name}'{closest(name, list(known))}")
    for name in known:
        require(name in limits, f"missing key '{where}.{name}'")
        value = limits[name]
        if name.startswith(("max_", "min_")):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            require(
                value is None or (number and value >= 0),
                f"'{where}.{name}' must be a number that is not negative, or null for no bound",
            )
        else:
            require(
                isinstance(value, list) and all(isinstance(one, str) for one in value),
                f"'{where}.{name}' must list the values that are allowed",
            )


_PAYLOAD_TYPES = ["float32", "bfloat16", "int8", "int4"]

OPEN = Policy(
    discloses={
        "scores": {},
        "latents": {
            "max_snr": None,
            "mode": ["fresh", "once"],
            "max_releases": None,
            "min_cut": None,
            "max_channels": None,
            "payload_type": _PAYLOAD_TYPES,
        },
        "latent noise": {},
        "feature gradients": {"max_clip": None, "min_noise": None, "payload_type": _PAYLOAD_TYPES},
        "proxies": {"min_noise": None},
        "weights": {"part": list(WEIGHT_PARTS), "max_epsilon": None},
    },
    tensorboard_images=True,
    recording=True,
)
"""Allows all that is known to leave in some job. It holds for phantoms, which are nobody's."""

DEFAULT = Policy(
    discloses={
        "scores": {},
        "latents": {
            "max_snr": 0.05,
            "mode": ["once"],
            "max_releases": 1,
            "min_cut": 2,
            "max_channels": 16,
            "payload_type": _PAYLOAD_TYPES,
        },
        "feature gradients": {"max_clip": None, "min_noise": 0.0, "payload_type": _PAYLOAD_TYPES},
        "proxies": {"min_noise": 0.5},
        "weights": {"part": ["decoder under DP"], "max_epsilon": 1.0},
    },
    tensorboard_images=True,
    recording=False,
)
"""Holds for a site with images of its own that has written none."""


def read_policy(home: Path, site: str) -> Policy:
    """Return the policy of a site: its ``policy.json``, or :data:`DEFAULT`, or :data:`OPEN` for phantoms.

    Raises:
        PolicyError: the file is not JSON, a key is unknown or missing, or a value is impossible.
    """
    path = home / POLICY_FILE
    if not path.exists():
        return DEFAULT if (home / SITE_FILE).exists() else OPEN
    try:
        content = read_json(path)
        if "require_noise" in content:
            raise ConfigError(
                "this is the policy of an earlier version, which governed latents alone; write it anew from "
                "workspace_templates/site/policy.json, whose 'discloses' names all that may leave"
            )
        return parse(Policy, content)
    except ConfigError as error:
        raise PolicyError(
            f"{path}: {error}", public=f"site '{site}' cannot start: its {POLICY_FILE} is wrong, see its log"
        ) from None


def check_disclosures(policy: Policy, site: str, disclosures: Sequence[Disclosure]) -> None:
    """Check that nothing leaves which the policy forbids.

    Raises:
        PolicyError: naming every rule that the job breaks, what is allowed and what is asked; public as a
            whole.
    """
    broken = [rule for disclosure in disclosures for rule in _broken(policy, disclosure)]
    if broken:
        message = f"site '{site}' refuses: {'; '.join(broken)}"
        raise PolicyError(message, public=message)


def _broken(policy: Policy, disclosure: Disclosure) -> Iterator[str]:
    kind = disclosure.kind
    if kind not in policy.discloses:
        yield f"the job discloses {kind}, which the policy does not name"
        return
    for name, limit in policy.discloses[kind].items():
        if name.startswith(("max_", "min_")):
            fact = disclosure.facts[name[4:]]
            if limit is not None and not _within(name, limit, fact):
                yield f"policy {kind}.{name} {limit:g}, job {_shown(fact)}"
        elif (fact := disclosure.facts[name]) not in limit:
            yield f"policy {kind}.{name} {', '.join(limit) or 'none'}, job {_shown(fact)}"


def _within(name: str, limit: float, fact: Fact) -> bool:
    """Return whether a fact keeps a bound; one that is None is without any bound of its own."""
    if not isinstance(fact, int | float):
        return False
    return fact <= limit if name.startswith("max_") else fact >= limit


def _shown(fact: Fact) -> str:
    if fact is None:
        return "without any"
    return f"{fact:.3g}" if isinstance(fact, float) else str(fact)
