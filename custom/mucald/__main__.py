"""Federated learning for hospitals: one command, ``mucald <verb>``.

``mucald jobs/mucald`` is short for ``mucald run jobs/mucald``.
"""

import sys
from pathlib import Path

from mucald import __version__
from mucald.command_line import STATUSES, WRONG_USE, leave, plain, program
from mucald.commands import groups, main_of, verbs

_HELP, _VERSION = ("-h", "--help"), ("--version",)


def overview() -> str:
    """Return the help: every verb, and how to go on."""
    width = max(map(len, verbs()))
    usage = "usage: mucald <verb> [arguments]; mucald <verb> --help tells more"
    lines = [plain(__doc__ or "").strip(), "", usage]
    for group in groups():
        lines += ["", group.title]
        lines += [f"  {verb:<{width}}  {summary}" for verb, summary in group.verbs.items()]
    return "\n".join([*lines, "", STATUSES])


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in (*_HELP, *_VERSION):
        return _about(arguments)
    verb, *others = arguments
    known = verbs()
    if verb in known:
        return main_of(verb)(others)
    # What follows may be a job, and its options before it.
    if not verb.startswith("-") and not Path(verb).exists() and "/" not in verb:
        return _unknown(verb, known)
    return main_of("run")(arguments)


@program
def _about(arguments: list[str]) -> int:
    print(__version__ if arguments and arguments[0] in _VERSION else overview())
    return 0 if arguments else WRONG_USE


def _unknown(verb: str, known: dict[str, str]) -> int:
    from mucald.config.schema import closest

    mistake = f"{verb} is neither a verb nor a job folder{closest(verb, list(known))}"
    print(f"error: {mistake} (--help tells the use)", file=sys.stderr)
    return WRONG_USE


def command() -> None:
    """Run the command line and end the process."""
    leave(main())


if __name__ == "__main__":
    command()
