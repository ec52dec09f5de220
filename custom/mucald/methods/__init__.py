"""The families of methods. Each is one folder, and one entry of :data:`FAMILIES`.

A family's package has one object ``FAMILY`` (:class:`.Family`), by which the rest of the house gets its
configuration, its server's half and its sites' half. Nothing else outside the folder names what is in it.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from mucald.config.schema import closest
from mucald.data.measures import Measures, no_measures
from mucald.errors import ConfigError
from mucald.federation.method import Family, TrainedModel

FAMILIES = ("split", "weights", "generative", "pooled")
"""Names of the packages beside this file; a job's ``method`` is one of them."""


def family_of(method: str) -> Family:
    """Return the family called ``method``.

    Raises:
        ConfigError: there is none; the message names the nearest and all known ones.
    """
    if method not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ConfigError(f"unknown method '{method}'{closest(str(method), list(FAMILIES))} (known: {known})")
    return importlib.import_module(f"mucald.methods.{method}").FAMILY


@runtime_checkable
class Measuring(Protocol):
    """A family whose methods take numbers of the samples of some tasks."""

    def measures(self, task: str) -> Measures:
        """Return what is measured of a task; nothing for one that the family does not know."""


@runtime_checkable
class Replaying(Protocol):
    """A family whose networks draw noise, and can draw it as the run's own test did."""

    def replay(self, model: TrainedModel, home: Path) -> Callable[[Tensor], Tensor]:
        """Return the network of the test; ``home`` is the site's own folder."""


def measures_of(task: str) -> Measures:
    """Return what methods measure of a task, whichever does."""
    families = [family_of(name) for name in FAMILIES]
    found = (family.measures(task) for family in families if isinstance(family, Measuring))
    return next((measures for measures in found if measures.names), no_measures(task))
