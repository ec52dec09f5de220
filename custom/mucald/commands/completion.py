"""Print a script with which the shell completes verbs, options and names of files.

    mucald completion bash > ~/.local/share/bash-completion/completions/mucald
    mucald completion zsh > ~/.zfunc/_mucald

The second needs ``fpath+=~/.zfunc`` before ``compinit`` in ``~/.zshrc``. Print it anew after an update.
"""

import argparse
import importlib
import shlex

from mucald.command_line import Parser, command
from mucald.commands import groups, verbs

_BASH = """\
_mucald() {{
    local word=${{COMP_WORDS[COMP_CWORD]}}
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W {verbs} -- "$word") $(compgen -d -- "$word"))
        return
    fi
    local options=""
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    fi
}}
complete -o default -o bashdefault -F _mucald mucald
"""
_ZSH = """\
#compdef mucald
_mucald() {{
    local -a verbs options
    verbs=({verbs})
    if ((CURRENT == 2)); then
        _describe verb verbs
        _files -/
        return
    fi
    case $words[2] in
{cases}
    esac
    if [[ $PREFIX == -* ]]; then
        _describe option options
    else
        _files
    fi
}}
_mucald "$@"
"""


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald completion", description=__doc__)
    parser.add_argument("shell", choices=("bash", "zsh"))
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(bash() if arguments.shell == "bash" else zsh(), end="")
    return 0


def options_of(verb: str) -> dict[str, str]:
    """Return the long options of a verb with their help."""
    options = parser_options(importlib.import_module(verbs()[verb]).describe())
    return {name: words for name, words in options.items() if name.startswith("--")}


def parser_options(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return all options of a parser, and of its own verbs, with their help."""
    found: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own in action.choices.values():
                found |= parser_options(own)
        found |= dict.fromkeys(action.option_strings, action.help or "")
    return found


def bash() -> str:
    """Return the script of bash."""
    cases = [f"        {verb}) options={shlex.quote(' '.join(options_of(verb)))} ;;" for verb in verbs()]
    return _BASH.format(verbs=shlex.quote(" ".join(verbs())), cases="\n".join(cases))


def zsh() -> str:
    """Return the script of zsh, which shows the help too."""
    told = {verb: summary for group in groups() for verb, summary in group.verbs.items()}
    cases = [f"        {verb}) options=({_described(options_of(verb))}) ;;" for verb in verbs()]
    return _ZSH.format(verbs=_described(told), cases="\n".join(cases))


def _described(told: dict[str, str]) -> str:
    # A colon ends the name.
    return " ".join(shlex.quote(f"{name}:{words.replace(':', ' -')}") for name, words in told.items())


main = command(describe, run)
