"""The rules by name. A module of its own, since a rule may be made of another."""

from typing import Any

from mucald.aggregation.base import Rule
from mucald.config.schema import parse_named

RULES: dict[str, type[Rule]] = {}
"""Filled where the package begins, which knows all rules."""


def make_rule(name: str, args: dict[str, Any], path: str = "aggregation.args") -> Rule:
    """Return the aggregation rule ``name`` with the arguments ``args`` from the job's JSON.

    Args:
        name: of :data:`RULES`.
        args: the rule's arguments.
        path: where they stand in the JSON, for error messages.

    Raises:
        ConfigError: the rule or an argument is unknown, missing, or of the wrong type or range.
    """
    return parse_named(RULES, "aggregation rule", name, args, path)
