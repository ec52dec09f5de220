"""The families of methods. Each is one folder, and one entry of :data:`FAMILIES`.

A family's package has one object ``FAMILY`` (:class:`.Family`), by which the rest of the house gets its
configuration, its server's half and its sites' half. Nothing else outside the folder names what is in it.
"""

import importlib

from mucald.config.schema import closest
from mucald.errors import ConfigError
from mucald.federation.method import Family

FAMILIES = ("split", "weights", "pooled")
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
