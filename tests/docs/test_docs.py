"""What the documents say of files, keys, messages and tasks is what the code has."""

import importlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from commands import load_tool

from mucald.aggregation import RULES
from mucald.commands import verbs
from mucald.commands.completion import parser_options
from mucald.config.merge import dotted_keys
from mucald.data.records.layouts import LAYOUTS
from mucald.federation import report
from mucald.methods.jobs import base_names, load_job
from mucald.methods.split.causal.graphs import CAUSAL_TASKS
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.server.method import SplitServerMethod
from mucald.methods.split.wire.messages import Field, Kind, Phase
from mucald.metrics.names import NAMES
from mucald.privacy.disclosure import KINDS
from mucald.results.table import results_table
from mucald.tasks import TASKS
from mucald.wire import frame
from mucald_studies.attacks import ATTACKS
from mucald_studies.attacks.harness.base import Knowledge

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(REPOSITORY.glob("docs/*.md"))]
JOB = REPOSITORY / "jobs/mucald"


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def document(request: pytest.FixtureRequest) -> Path:
    return request.param


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of every table row."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("| ---"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def keyed_rows(text: str) -> dict[str, list[str]]:
    """Return the rows whose first cell is one name in code style, by that name."""
    found: dict[str, list[str]] = {}
    for name, *cells in rows(text):
        if match := re.fullmatch(r"`([^`]+)`", name):
            assert match[1] not in found, f"{match[1]} has two rows"
            found[match[1]] = cells
    return found


def section(text: str, heading: str) -> str:
    """Return what stands below ``heading``, down to the next one of its level."""
    level = heading.split()[0]
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    return re.split(rf"(?m)^#{{1,{len(level)}}} ", text[start:])[0]


def names(cell: str) -> set[str]:
    return set(re.findall(r"[A-Z_]{2,}", cell))


def slugs(text: str) -> set[str]:
    """Return the anchors that GitHub gives to headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_files_and_headings(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), target
        assert not anchor or anchor in slugs(path.read_text(encoding="utf-8")), target


def test_paths_that_are_named_exist(document):
    pattern = r"(?<![\w/.<>-])(?:(?:jobs|custom|tools|tests|docs|\.ci)/[\w./*-]*|requirements[\w-]*\.txt)"
    for path in re.findall(pattern, document.read_text(encoding="utf-8")):
        assert list(REPOSITORY.glob(path.rstrip("."))), path


@cache
def options_of(program: str) -> set[str]:
    """Return the options of a tool, or of a verb, and of its own verbs."""
    if program.startswith("tools/"):
        tool = load_tool(Path(program).stem)
        return parser_options(tool.describe()) if hasattr(tool, "describe") else set(quoted(read(program)))
    verb = program if program in verbs() else "run"
    return parser_options(importlib.import_module(verbs()[verb]).describe())


def quoted(source: str) -> list[str]:
    return re.findall(r'"(--?[a-z][\w-]*)"', source)


def test_options_of_the_commands_exist(document):
    text = document.read_text(encoding="utf-8")
    commands = re.findall(r"python (tools/\w+\.py)([^\n`]*)", text)
    for quoted_code in re.findall(r"`+[^`]+`+", text):
        commands += re.findall(r"(?<![\w/-])mucald ([\w/-]+)((?: [^\n`]*)?)", quoted_code)
    assert commands or document != REPOSITORY / "README.md"
    for program, arguments in commands:
        for option in re.findall(r"(?<= )--?[a-z][\w-]*", arguments):
            assert option in options_of(program), f"{program} {option}"


def test_folder_map_is_true():
    tree = section(read("CONTRIBUTING.md"), "## Where things are").split("```")[1]
    listed, parent = set(), ""
    for indent, name in re.findall(r"(?m)^( *)([\w./]+)(?= )", tree):
        parent = parent if indent else name
        path = parent + name if indent else name
        assert (REPOSITORY / path).exists(), path
        listed.add(path)
    packages = {path.parent.name for path in (REPOSITORY / "custom/mucald").glob("*/__init__.py")}
    assert {f"custom/mucald/{package}/" for package in packages} <= listed


def test_the_tables_of_the_configuration_are_what_the_command_writes(capsys):
    assert load_tool("reference").main(["--check"]) == 0, capsys.readouterr().err


def test_the_command_tells_of_a_table_that_is_not_as_the_code_says(tmp_path, monkeypatch, capsys):
    tool, document = load_tool("reference"), tmp_path / "configuration.md"
    ((original, blocks),) = [item for item in tool.DOCUMENTS.items() if item[0].name == document.name]
    monkeypatch.setattr(tool, "DOCUMENTS", {document: blocks})
    whole = original.read_text(encoding="utf-8")
    assert whole == read("docs/configuration.md")
    other = whole.replace("| `release.noised` |", "| `release.noise` |")
    for text, message in (
        (other, "run python tools/reference.py"),
        (whole.replace("<!-- jobs: end -->", ""), "lacks the comments"),
    ):
        document.write_text(text, encoding="utf-8")
        assert tool.main(["--check"]) == 1
        assert message in capsys.readouterr().err
        assert document.read_text(encoding="utf-8") == text, "--check writes nothing"
    document.write_text(other, encoding="utf-8")
    assert tool.main([]) == 0
    assert document.read_text(encoding="utf-8") == whole


def test_every_key_of_every_job_and_every_job_has_its_row():
    text = read("docs/configuration.md")
    table = set(re.findall(r"(?m)^\| `([^`]+)` \|", text))
    jobs = sorted(path.parent for path in REPOSITORY.glob("jobs/*/meta.json"))
    assert {job.name for job in jobs} | set(base_names()) <= table
    for job in jobs:
        keys = dotted_keys(load_job(job)[0].to_dict())
        for key in keys:
            if key.startswith(("sites.", "data.volumes.plans")) or any(
                other.startswith(f"{key}.") for other in keys
            ):
                continue
            # What is within arguments and ramps has no row of its own.
            whole = {key[:end] for end in (*(dot.start() for dot in re.finditer(r"\.", key)), len(key))}
            assert whole & table, key
    assert "sites.<site>.task" in table


def test_policy_table_has_every_kind_and_limit_with_the_templates_value_and_no_other():
    text = section(read("docs/configuration.md"), "## `policy.json`")
    template = json.loads(read("workspace_templates/site/policy.json"))
    expected = []
    for kind, content in KINDS.items():
        allowed = template["discloses"].get(kind)
        expected.append([f"`{kind}`", "not allowed" if allowed is None else "allowed", content.meaning])
        for name, limit in content.limits.items():
            value = "" if allowed is None else f"`{json.dumps(allowed[name])}`"
            expected.append([f"`{kind}`, `{name}`", value, limit.meaning])
    of_kinds, of_keys = (list(rows(part))[1:] for part in text.split("<!-- policy.json: end -->"))
    assert of_kinds == expected
    others = {key.strip("`"): json.loads(value.strip("`")) for key, value, _ in of_keys}
    assert others == {key: value for key, value in template.items() if key != "discloses"}


def test_every_layout_of_images_has_its_row():
    assert set(keyed_rows(section(read("docs/configuration.md"), "## `site.json`"))) >= set(LAYOUTS)


def test_privacy_account_of_the_shipped_job():
    command = [sys.executable, "tools/privacy_account.py", "jobs/mucald"]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    documented = read("docs/privacy.md")
    table = [line for line in printed.splitlines() if line.startswith(("|", "- "))]
    assert len(table) == 8 + 3
    assert all(line in documented.splitlines() for line in table)


def test_phases_and_their_content():
    table = keyed_rows(section(read("docs/protocol.md"), "### Phases"))
    assert {name: int(cells[0]) for name, cells in table.items()} == {p.name: p.value for p in Phase}
    for phase in Phase:
        _, request, reply = table[phase.name]
        required, _, optional = request.partition("(")
        assert names(required) == {field.name for field in phase.spec.required}, phase
        assert names(optional) == {field.name for field in phase.spec.optional}, phase
        assert names(reply) == {field.name for field in phase.spec.reply}, phase


def test_fields_and_their_types():
    table = keyed_rows(section(read("docs/protocol.md"), "### Fields"))
    assert {name: int(cells[0]) for name, cells in table.items()} == {f.name: f.value for f in Field}
    for field in Field:
        assert set(table[field.name][2].split(", ")) == field.types, field


def test_message_layout():
    text = read("docs/protocol.md")
    sizes = {row[0].split(",")[0]: row[1] for row in rows(section(text, "## Message"))}
    assert int(sizes["header"]) == frame._HEADER.size + frame._CHECKSUM.size
    assert int(sizes["descriptor"]) == frame._DESCRIPTOR.size
    assert f"The version is {frame.VERSION}." in text
    for kind in Kind:
        assert f"`{kind.name}` {kind.value}" in text


def test_report_fields():
    table = [row[1] for row in rows(section(read("docs/protocol.md"), "### Report"))][1:]
    documented = [set(re.findall(r"`(\w+)`", cell)) for cell in table]
    names, own = NAMES["mask"], SplitServerMethod.report_fields
    of_task = {
        task: {name for name, field in own.items() if field.task == task} for task in ("train", "test")
    }
    assert documented == [
        report._ALWAYS,
        report._TRAIN,
        {"test", names.per_image, *of_task["test"]},
        report._OPTIONAL | of_task["train"],
    ]


def test_tasks_table():
    text = read("docs/tasks.md")
    assert keyed_rows(text).keys() == TASKS.keys()
    formulas = section(text, "## Proxies")
    for node in {node for task in CAUSAL_TASKS.values() for node in task.graph.nodes}:
        assert re.search(rf"\b{node}\b", formulas), node


def test_signal_to_noise_ratios():
    levels, ratios = list(rows(section(read("docs/method.md"), "## Release")))
    for level, ratio in zip(levels[1:], ratios[1:], strict=True):
        assert float(ratio) == pytest.approx(float(CosineSchedule().snr(int(level))), rel=5e-3)


def test_aggregation_rules():
    assert keyed_rows(section(read("docs/method.md"), "## Aggregation")).keys() == RULES.keys()


def test_attacks_and_what_they_know():
    table = keyed_rows(section(read("docs/attacks.md"), "## Attacks"))
    assert table.keys() == ATTACKS.keys()
    for name, (knowledge, _) in table.items():
        assert set(re.findall(r"`(\w+)`", knowledge)) == ATTACKS[name].knowledge, name
    assert keyed_rows(section(read("docs/attacks.md"), "## Threat model")).keys() == set(Knowledge)


def test_registries_that_contributors_are_sent_to_exist():
    text = section(read("CONTRIBUTING.md"), "## How to add …")
    paths = [*(REPOSITORY / "custom").rglob("*.py"), REPOSITORY / "tests/families.py"]
    code = "".join(path.read_text() for path in paths)
    registries = set(re.findall(r"`(_?[A-Z][A-Z_]+)`", text))
    assert {"_TASKS", "BACKBONES", "RULES", "SUPERVISION", "LAYOUTS"} <= registries
    for registry in registries:
        assert re.search(rf"(?m)^{registry}\b.*= ", code), registry


def test_numbers_in_the_readme_are_of_the_shipped_job():
    config, sites = load_job(JOB)
    (block,) = re.findall(r"<!-- numbers: begin.*?numbers: end -->", read("README.md"), flags=re.DOTALL)
    rounds = {int(total) for total in re.findall(r"(?m)^round \d+/(\d+)", block)}
    assert rounds == {config.training.rounds}
    site = {"task": "kvasir", "source": "phantoms", "best_round": 0, "server_contribution": 0.1}
    scores = dict.fromkeys(NAMES["mask"].metrics, 0.5)
    mean = {"test": scores, "server_contribution": 0.1}
    table = results_table({"sites": {"polyp": site | {"test": scores}}, "mean": mean})
    header = table.splitlines()[0].split()
    lines = [line.split() for line in block.splitlines()]
    start = lines.index(header) + 1
    assert [line[0] for line in lines[start : start + len(sites) + 1]] == [*sorted(sites), "mean"]


def test_architecture_picture_is_whole_and_has_a_white_ground():
    root = ElementTree.parse(REPOSITORY / "docs/images/architecture.svg").getroot()
    _, _, width, height = root.attrib["viewBox"].split()
    ground = root.find("{http://www.w3.org/2000/svg}rect")
    assert ground is not None
    assert ground.attrib == {"width": width, "height": height, "fill": "#ffffff"}
