"""The command line ``mucald <verb>``: what all verbs have in common, and how the shell completes them."""

import argparse
import importlib
import json
import re
import shlex
import subprocess
import sys

import pytest
from commands import load_tool
from tiny_job import REPOSITORY, tiny_content, write_job

from mucald import __main__, __version__, commands
from mucald.command_line import STATUSES, Found, Parser, WrongUseError, add_json_option, command
from mucald.commands import groups, main_of, verbs
from mucald.commands.completion import options_of

ITSELF = {"reference"}
"""Tools that are no doors to a verb."""


def parser_of(verb: str) -> Parser:
    return importlib.import_module(verbs()[verb]).describe()


@pytest.mark.parametrize("verb", verbs())
def test_help_has_an_example_that_the_verb_takes(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main_of(verb)(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: mucald {verb} ")
    assert text.rstrip().endswith(STATUSES)
    assert "``" not in text
    examples = re.findall(r"(?m)^    (mucald .+)$", text)
    assert examples
    for line in examples:
        name, of_line, *arguments = shlex.split(line.partition(" > ")[0])
        assert (name, of_line) == ("mucald", verb)
        # What must exist, does.
        there = {f"home/{site}/site.json": str(REPOSITORY / "README.md") for site in ("endoscopy", "cardiac")}
        parser_of(verb).parse_args([there.get(one, one) for one in arguments])


def test_every_tool_is_a_door_to_a_verb_and_every_verb_has_one():
    tools = {path.stem for path in (REPOSITORY / "tools").glob("*.py")} - ITSELF
    doors = {load_tool(name).__name__ for name in tools}
    assert doors == set(verbs().values()) - {verbs()["run"], verbs()["completion"]}


def test_the_overview_names_every_verb_and_loads_nothing_heavy():
    program = "import sys; from mucald.__main__ import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *lines, modules = done.stdout.splitlines()
    assert lines[0] == "Federated learning for hospitals: one command, 'mucald <verb>'."
    for group in groups():
        for verb, summary in group.verbs.items():
            assert any(line.split(maxsplit=1) == [verb, summary] for line in lines)
    assert not {"torch", "numpy", "nvflare", "monai", "matplotlib"} & set(modules.split())


def test_without_the_studies_their_verbs_are_not_there(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mucald_studies.commands", None)
    assert {module.split(".")[0] for module in commands.verbs().values()} == {"mucald"}
    assert __main__.main(["report"]) == 2
    assert "report is neither a verb nor a job folder" in capsys.readouterr().err


def test_a_first_word_is_a_verb_or_a_job(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert __main__.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    assert __main__.main([]) == 2
    assert "usage: mucald <verb>" in capsys.readouterr().out
    assert __main__.main(["chek"]) == 2
    said = "error: chek is neither a verb nor a job folder; did you mean 'check'? (--help tells the use)\n"
    assert capsys.readouterr() == ("", said)
    for job in ("-w", "w", "jobs/none"), ("./none",):
        assert __main__.main(list(job)) == 1
        assert "none is no job folder: it does not exist" in capsys.readouterr().err


def test_a_job_is_run_with_and_without_the_verb(tmp_path, capsys):
    job = write_job(tmp_path / "job", tiny_content(training={"rounds": 0}))
    for arguments in ([str(job)], ["run", str(job)]):
        assert __main__.main([*arguments, "-w", str(tmp_path / "w")]) == 1
        assert "'training': rounds must be at least 1" in capsys.readouterr().err


def described() -> Parser:
    parser = Parser(prog="mucald count")
    parser.add_argument("number", type=int)
    add_json_option(parser)
    return parser


def counted(arguments: argparse.Namespace) -> Found:
    if arguments.number > 9:
        raise WrongUseError("at most 9")
    print("for people")
    return Found({"number": arguments.number}, status=arguments.number)


def test_json_is_all_that_a_machine_reads(capsys):
    main = command(described, counted)
    assert main(["3"]) == 3
    assert capsys.readouterr() == ("for people\n", "")
    assert main(["3", "--json"]) == 3
    output, errors = capsys.readouterr()
    assert (json.loads(output), errors) == ({"number": 3}, "for people\n")
    with pytest.raises(SystemExit, match="2"):
        main(["10"])
    assert capsys.readouterr() == ("", "error: at most 9 (--help tells the use)\n")


def test_the_account_is_read_by_machines(capsys):
    assert __main__.main(["account", str(REPOSITORY / "jobs/mucald"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in content["disclosures"]} >= {"scores", "proxies"}


def test_a_configuration_is_one_json_with_and_without_the_option(capsys):
    said = []
    for more in ([], ["--json"]):
        assert __main__.main(["show-job", str(REPOSITORY / "jobs/mucald"), *more]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1]
    assert json.loads(said[0].out)["name"] == "mucald"


@pytest.fixture(scope="module")
def bash() -> str:
    """The script that bash reads."""
    command_line = [sys.executable, "-m", "mucald", "completion", "bash"]
    return subprocess.run(command_line, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mucald", "pre"], {"prepare", "predict"}),
        (["mucald", "predict", "images", "--ser"], {"--server-model"}),
        (["mucald", "group-key", "make", "--f"], {"--for", "--force", "--from"}),
    ],
)
def test_bash_completes_verbs_and_options(words, offered, bash, tmp_path):
    asked = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _mucald"
    script = f'{bash}\n{asked}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


def test_zsh_gets_every_verb_and_option(capsys):
    assert main_of("completion")(["zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef mucald\n")
    for verb in verbs():
        (line,) = re.findall(rf"(?m)^        {verb}\) options=\((.*)\) ;;$", script)
        assert [one.partition(":")[0] for one in shlex.split(line)] == list(options_of(verb))
