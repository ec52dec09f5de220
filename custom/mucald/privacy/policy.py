"""A site's policy, ``<home>/policy.json``: what it lets out, whatever a job asks.

The hospital writes it, and the site reads it before it touches an image. It is total: a job that discloses
anything that the policy does not name, or more than it allows, is refused before anything leaves.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mucald.config.common import require
from mucald.config.schema import closest, parse, read_json
from mucald.data.site_file import has_site_file
from mucald.errors import ConfigError, PolicyError
from mucald.privacy.disclosure import KINDS, Disclosure, Fact, Limit, fact_of, shown

POLICY_FILE = "policy.json"
TO_ALLOW = "docs/how-to.md, 'Let a site take part in a job that it refuses', tells how its owner can allow it"

Limits = dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """The content of ``policy.json``; every field is one of its keys, and all must be there.

    Args:
        discloses: what may leave, by kind of disclosure, with all limits that the kind has
            (:data:`mucald.privacy.disclosure.KINDS`). A kind that is not named may not leave.
        tensorboard_images: allow pictures in the site's own run folder, if ``site.json`` wants them too.
        recording: allow jobs in which the server keeps the site's messages (``runtime.record``).

    Raises:
        ValueError: a kind or limit is unknown or missing, or has an impossible value.
    """

    discloses: dict[str, Limits]
    tensorboard_images: bool
    recording: bool

    def __post_init__(self) -> None:
        for kind, limits in self.discloses.items():
            require(
                kind in KINDS,
                f"'discloses' names the unknown kind '{kind}'{closest(kind, list(KINDS))} "
                f"(known: {', '.join(KINDS)})",
            )
            _check_limits(kind, limits)

    def limit(self, kind: str, name: str) -> Any:
        """Return a limit; None where there is none, or where the kind may not leave at all."""
        return self.discloses.get(kind, {}).get(name)


def _check_limits(kind: str, limits: Limits) -> None:
    where, known = f"discloses.{kind}", KINDS[kind].limits
    for name in limits:
        require(name in known, f"unknown key '{where}.{name}'{closest(name, list(known))}")
    for name, limit in known.items():
        require(name in limits, f"missing key '{where}.{name}'")
        value = limits[name]
        if limit.values is not None:
            _check_names(f"{where}.{name}", value, limit.values)
            continue
        _check_number(f"{where}.{name}", value, may_be_zero=name.startswith("min_"))
        require(
            not value or limit.unit is None or limits.get(limit.unit) is not None,
            f"'{where}.{name}' counts in units of {limit.unit}, so give that too",
        )


def _check_names(key: str, value: Any, known: Sequence[str]) -> None:
    wanted = f"'{key}' must list some of {', '.join(known)}"
    require(isinstance(value, list) and len(value) > 0, f"{wanted}; leave out the whole kind to forbid it")
    for name in value:
        require(name in known, f"{wanted}, not {shown(name)}{closest(str(name), list(known))}")


def _check_number(key: str, value: Any, may_be_zero: bool) -> None:
    wanted = "not be negative" if may_be_zero else "be positive"
    fits = value is None or (_is_number(value) and (value > 0 or (may_be_zero and value == 0)))
    require(fits, f"'{key}' must {wanted}, or null for no bound, not {shown(value)}")


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _widest(limit: Limit) -> list[str] | None:
    return None if limit.values is None else list(limit.values)


OPEN = Policy(
    discloses={
        kind: {name: _widest(limit) for name, limit in content.limits.items()}
        for kind, content in KINDS.items()
    },
    tensorboard_images=True,
    recording=True,
)
"""Allows all that is known to leave in some job. It holds for phantoms, which are nobody's."""

_PAYLOAD_TYPES = OPEN.limit("latents", "payload_type")

DEFAULT = Policy(
    discloses={
        "scores": {},
        "latents": {
            "max_snr": 0.0374,
            "mode": ["once"],
            "max_releases": 1,
            "min_cut": 2,
            "max_channels": 16,
            "payload_type": _PAYLOAD_TYPES,
        },
        "feature gradients": {"max_clip": 0.0003, "min_noise": 1.0, "payload_type": _PAYLOAD_TYPES},
        "proxies": {"min_noise": 0.5},
        "weights": {
            "part": ["decoder under DP", "class Gaussians under DP"],
            "max_epsilon": 1.0,
            "max_delta": 1e-4,
            "max_total_epsilon": 3.0,
        },
    },
    tensorboard_images=True,
    recording=False,
)
"""Holds for a site with images of its own that has written none; admits ``jobs/mucald``, nothing weaker."""


def read_policy(home: Path, site: str) -> Policy:
    """Return the policy of a site: its ``policy.json``, or :data:`DEFAULT`, or :data:`OPEN` for phantoms.

    Raises:
        PolicyError: the file is not JSON, a key is unknown or missing, or a value is impossible.
    """
    path = home / POLICY_FILE
    if not path.exists() and not path.is_symlink():
        return DEFAULT if has_site_file(home) else OPEN
    try:
        content = read_json(path)
        if "discloses" not in content:
            raise ConfigError(
                "it lacks 'discloses', which names all that may leave. A policy of an earlier version, which "
                "governed latents alone, has to be written anew; start from "
                "workspace_templates/site/policy.json"
            )
        return parse(Policy, content)
    except ConfigError as error:
        raise PolicyError(
            f"{path}: {error}", public=f"site '{site}' cannot start: its {POLICY_FILE} is wrong, see its log"
        ) from None


def check_disclosures(policy: Policy, site: str, disclosures: Sequence[Disclosure], recorded: bool) -> None:
    """Check that nothing leaves which the policy forbids.

    Args:
        policy: of the site.
        site: its name.
        disclosures: all that the job lets leave the site.
        recorded: whether the server keeps what it gets.

    Raises:
        PolicyError: naming every rule that the job breaks, what is allowed and what is asked; public as a
            whole.
    """
    broken = [rule for disclosure in disclosures for rule in _broken(policy, disclosure)]
    if recorded and not policy.recording:
        broken.append("messages may not be recorded (runtime.record)")
    if broken:
        message = f"site '{site}' refuses by its {POLICY_FILE}: {'; '.join(broken)}; {TO_ALLOW}"
        raise PolicyError(message, public=message)


def _broken(policy: Policy, disclosure: Disclosure) -> Iterator[str]:
    kind = disclosure.kind
    if kind not in policy.discloses:
        yield f"{kind} may not leave"
        return
    for name, limit in policy.discloses[kind].items():
        if fact_of(name) not in disclosure.facts:
            yield f"{kind}.{name} allows {shown(limit)}, the job's method does not say what it has"
        elif not _within(name, limit, fact := disclosure.facts[fact_of(name)]):
            # Rounded numbers may look alike, above all where one was copied from what a tool has printed.
            write = repr if shown(limit) == shown(fact) else shown
            asked = "no bound" if fact is None else write(fact)
            yield f"{kind}.{name} allows {write(limit)}, the job has {asked}"


def _within(name: str, limit: Any, fact: Fact) -> bool:
    """Return whether a fact keeps a limit; a number that nothing bounds keeps only the one that is none."""
    if isinstance(limit, list):
        return fact in limit
    if limit is None or fact is None:
        return limit is None
    if not isinstance(fact, int | float) or not _is_number(fact):
        return False
    return fact <= limit if name.startswith("max_") else fact >= limit
