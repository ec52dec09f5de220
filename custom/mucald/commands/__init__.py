"""The command line: ``mucald <verb>``. A verb is a line of a group here and a module of its own.

The module is named like the verb, with ``_`` for ``-``. It has ``describe``, which returns the parser,
``run``, which does the work, and ``main``, which :func:`mucald.command_line.command` makes of both. Nothing
of it is imported before somebody asks for the verb, since torch and FLARE take seconds.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mucald.errors import explained

CHECKOUT = Path(__file__).resolve().parents[3]
"""The repository's folder, if this is not an installed copy."""


@dataclass(frozen=True)
class Group:
    """Verbs that belong together.

    Args:
        title: as the overview calls it.
        package: where the verbs' modules lie.
        verbs: what each does, in a few words.
    """

    title: str
    package: str
    verbs: Mapping[str, str]


GROUPS = (
    Group(
        "Data of a site",
        f"{__name__}.data",
        {
            "check": "look at a site's images before it trains",
            "prepare": "write a data list in whose splits no patient occurs twice",
            "phantoms": "write phantoms as pictures and masks, to try things",
            "site-files": "write the site files of known public sets",
            "embed": "turn images into a set of embeddings",
            "share-out": "share one set of embeddings out to several sites",
        },
    ),
    Group(
        "Jobs and runs",
        f"{__name__}.jobs",
        {
            "run": "run a job in one process",
            "simulate": "run a job in FLARE's simulator",
            "show-job": "print a job's whole configuration",
            "new-job": "make a job for your own sites",
            "account": "print what a job lets leave a site, and what that can tell",
        },
    ),
    Group(
        "A federation of real sites",
        f"{__name__}.sites",
        {
            "setup": "set up and check start-up kits",
            "group-key": "give the sites of a group a key that the server has not",
            "submit": "submit a job, follow it, fetch its results",
            "export-job": "write a job as it is submitted",
        },
    ),
    Group(
        "After training",
        f"{__name__}.models",
        {
            "predict": "segment images with a trained model",
            "export": "write a trained model as a MONAI bundle",
        },
    ),
    Group("This command", __name__, {"completion": "print a script that completes verbs and options"}),
)


def groups() -> tuple[Group, ...]:
    """Return all groups of verbs that are installed."""
    found = studies("commands")
    return GROUPS if found is None else (*GROUPS[:-1], *found.GROUPS, GROUPS[-1])


def verbs() -> dict[str, str]:
    """Return the module of every verb that is installed."""
    return {verb: f"{group.package}.{verb.replace('-', '_')}" for group in groups() for verb in group.verbs}


def main_of(verb: str) -> Callable[[list[str] | None], int]:
    """Return what runs a verb: it takes arguments and returns the exit status."""
    return importlib.import_module(verbs()[verb]).main


def write_page(results: Path) -> None:
    """Write the page of a run beside its results, where the studies are installed."""
    try:
        page = studies("reporting.run_page")
        if page is None:
            return
        print(f"page: {page.write_run_page(results)}", flush=True)
    except Exception as error:  # noqa: BLE001 - the results are whole, whatever keeps the page from being drawn
        print(f"no page: {explained(error)}", file=sys.stderr, flush=True)


def studies(name: str) -> ModuleType | None:
    """Return a module of the studies, None where a site has not installed them and what they need.

    Args:
        name: within their package.
    """
    try:
        return importlib.import_module(f"mucald_studies.{name}")
    except ModuleNotFoundError:
        return None
