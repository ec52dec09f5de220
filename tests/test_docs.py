"""What the documents say of files, keys, messages and tasks is what the code has."""

import dataclasses
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mucald.aggregation import RULES
from mucald.config.common import SiteConfig
from mucald.data.layouts import LAYOUTS
from mucald.data.site_file import SiteFile
from mucald.federation import report
from mucald.methods.jobs import load_job
from mucald.methods.split.algorithms import ALGORITHMS
from mucald.methods.split.causal.graphs import CAUSAL_TASKS, causal_task
from mucald.methods.split.config import Ramp, SplitConfig
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.model.crdm.supervision import SUPERVISION
from mucald.methods.split.wire import messages
from mucald.methods.split.wire.messages import Field, Kind, Phase
from mucald.nets import BACKBONES
from mucald.results.table import results_table
from mucald.tasks import TASKS
from mucald_studies.attacks import ATTACKS
from mucald_studies.attacks.harness.base import Knowledge

REPOSITORY = Path(__file__).parents[1]
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


def with_shared_options(tool: str) -> str:
    """Return the source of a tool and of those that it takes options from."""
    source = read(tool)
    shared = re.findall(r"^from (\w+) import .*add_", source, re.MULTILINE)
    return source + "".join(read(f"tools/{name}.py") for name in shared)


def test_options_of_the_commands_exist(document):
    text = document.read_text(encoding="utf-8")
    commands = re.findall(r"python (tools/\w+\.py|-m mucald)([^\n`]*)", text)
    assert commands or document.name not in ("README.md", "tasks.md")
    for program, arguments in commands:
        source = read("custom/mucald/__main__.py") if program == "-m mucald" else with_shared_options(program)
        for option in re.findall(r"(?<= )--?[a-z][\w-]*", arguments):
            assert f'"{option}"' in source, f"{program} {option}"


def test_folder_map_is_true():
    tree = section(read("README.md"), "## Where things are").split("```")[1]
    listed, parent = set(), ""
    for indent, name in re.findall(r"(?m)^( *)([\w./]+)(?= )", tree):
        parent = parent if indent else name
        path = parent + name if indent else name
        assert (REPOSITORY / path).exists(), path
        listed.add(path)
    packages = {path.parent.name for path in (REPOSITORY / "custom/mucald").glob("*/__init__.py")}
    assert {f"custom/mucald/{package}/" for package in packages} <= listed


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        key, content = prefix + field.name, getattr(value, field.name)
        if key == "sites":
            yield from ((f"sites.<site>.{f.name}", f.default) for f in dataclasses.fields(SiteConfig))
        elif dataclasses.is_dataclass(content) and not isinstance(content, Ramp):
            yield from flatten(content, f"{key}.")
        else:
            yield key, dataclasses.asdict(content) if isinstance(content, Ramp) else content


def test_configuration_table_has_every_key_with_the_shipped_value_and_no_other():
    config, _ = load_job(JOB)
    assert isinstance(config, SplitConfig)
    table = keyed_rows(section(read("docs/configuration.md"), "## `mucald.json`"))
    ramp = {field.name for field in dataclasses.fields(Ramp)}
    expected = dict(flatten(config))
    assert table.keys() == expected.keys() | ramp
    for key, value in expected.items():
        shipped = table[key][0].strip("()`")
        if value is dataclasses.MISSING:
            assert shipped == "required", key
        else:
            assert json.loads(shipped) == json.loads(json.dumps(value)), key


def test_jobs_tables_have_every_job_with_what_it_changes_and_no_other():
    text = read("docs/configuration.md")
    baselines, ablations = (keyed_rows(section(text, f"### {title}")) for title in ("Baselines", "Ablations"))
    table = keyed_rows(section(text, "## Jobs")) | ablations | baselines
    assert table.keys() == {path.parent.name for path in REPOSITORY.glob("jobs/*/meta.json")}
    for name, (_, differences) in table.items():
        reference = (
            "baseline_splitfed" if name in baselines else "mucald_fresh" if name in ablations else "mucald"
        )
        own, other = (dict(flatten(load_job(JOB.with_name(job))[0])) for job in (name, reference))
        documented = re.findall(r"`([\w.]+)` = `([^`]+)`", differences)
        assert {key: json.loads(value) for key, value in documented} == {
            key: json.loads(json.dumps(value))
            for key, value in own.items()
            if value != other[key] and key not in ("name", "description")
        }, name


def test_site_file_table_has_every_key_with_its_default_and_no_other():
    text = section(read("docs/configuration.md"), "## `site.json`")
    table = keyed_rows(text)
    expected = dict(flatten(SiteFile(task="kvasir", datalist="x"))) | {"task": None, "datalist": None}
    assert table.keys() == expected.keys() | LAYOUTS.keys()
    for key, value in expected.items():
        shipped = table[key][0].strip("`")
        assert (shipped == "required") if key == "task" else (json.loads(shipped) == value), key


def test_policy_table_has_every_key_with_the_templates_value_and_no_other():
    table = keyed_rows(section(read("docs/configuration.md"), "## `policy.json`"))
    template = json.loads(read("workspace_templates/site/policy.json"))
    assert {key: json.loads(cells[0].strip("`")) for key, cells in table.items()} == template
    for key, choices in (("supervision", SUPERVISION), ("payload_types", Field.LATENT.types)):
        assert set(re.findall(r"`(\w+)`", table[key][1])) == set(choices), key


def test_privacy_account_of_the_shipped_job():
    command = [sys.executable, "tools/privacy_account.py", "jobs/mucald"]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    documented = read("docs/privacy.md")
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 6
    assert all(line in documented.splitlines() for line in table)


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("network.backbone", BACKBONES),
        ("crdm.supervision", SUPERVISION),
        ("algorithm.name", ALGORITHMS),
        ("aggregation.rule", RULES),
        ("wire.latent", Field.LATENT.types),
    ],
)
def test_choices_are_those_of_the_registry(key, choices):
    allowed = keyed_rows(section(read("docs/configuration.md"), "## `mucald.json`"))[key][1]
    assert set(re.findall(r"`(\w+)`", allowed)) == set(choices)


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
    assert int(sizes["header"]) == messages._HEADER.size + messages._CHECKSUM.size
    assert int(sizes["descriptor"]) == messages._DESCRIPTOR.size
    assert f"The version is {messages.VERSION}." in text
    for kind in Kind:
        assert f"`{kind.name}` {kind.value}" in text


def test_report_fields():
    table = [row[1] for row in rows(section(read("docs/protocol.md"), "### Report"))][1:]
    documented = [set(re.findall(r"`(\w+)`", cell)) for cell in table]
    assert documented == [report._ALWAYS, report._TRAIN, report._TEST, report._OPTIONAL]


def test_tasks_table():
    text = read("docs/tasks.md")
    table = keyed_rows(text)
    assert table.keys() == TASKS.keys()
    for name, (classes, graph) in table.items():
        assert tuple(classes.split(", ")) == TASKS[name].classes
        edges = {tuple(edge.split(" → ")) for edge in graph.split(", ")}
        assert edges == set(CAUSAL_TASKS[name].graph.edges)
    formulas = section(text, "## Proxies")
    for node in {node for task in TASKS.values() for node in causal_task(task.name).graph.nodes}:
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
    code = "".join(path.read_text() for path in (REPOSITORY / "custom/mucald").rglob("*.py"))
    registries = set(re.findall(r"`(_?[A-Z][A-Z_]+)`", text))
    assert {"_TASKS", "BACKBONES", "RULES", "SUPERVISION", "LAYOUTS"} <= registries
    for registry in registries:
        assert re.search(rf"(?m)^{registry}\b.*= ", code), registry


def test_numbers_in_the_readme_are_of_the_shipped_job():
    config, sites = load_job(JOB)
    (block,) = re.findall(r"<!-- numbers: begin.*?numbers: end -->", read("README.md"), flags=re.DOTALL)
    rounds = {int(total) for total in re.findall(r"(?m)^round \d+/(\d+)", block)}
    assert rounds == {config.training.rounds}
    header = results_table({"sites": {}}).split()
    lines = [line.split() for line in block.splitlines()]
    start = lines.index(header) + 1
    assert [line[0] for line in lines[start : start + len(sites) + 1]] == [*sorted(sites), "mean"]


def test_architecture_picture_is_whole_and_has_a_white_ground():
    root = ElementTree.parse(REPOSITORY / "docs/images/architecture.svg").getroot()
    _, _, width, height = root.attrib["viewBox"].split()
    ground = root.find("{http://www.w3.org/2000/svg}rect")
    assert ground is not None
    assert ground.attrib == {"width": width, "height": height, "fill": "#ffffff"}
