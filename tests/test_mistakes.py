"""Mistakes of every kind at every command: each is told in one line, and none ends in a traceback."""

import json
import random
import shutil
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path

import pytest
from commands import load_tool
from image_files import write_pair
from loopback_federation import provision
from tiny_job import PLAIN, REPOSITORY, run_job, tiny_config, tiny_content, write_job

from mucald import __main__
from mucald.deploy.group_keys import make_key
from mucald.deploy.kits import open_kit
from mucald.home import HOME_VARIABLE

MISTAKES = 200
PLACES = ("job", "home", "run", "sets", "kit", "kits", "ws", "new")
SEED = 7

JOB, HOME, SITE, RUN, IMAGES, KIT, NEW, FILE, TABLE = (
    "{job}", "{home}", "{home}/north/site.json", "{run}", "{home}/north/images", "{kit}",
    "{new}", "{new}.json", "{home}/patients.csv",
)  # fmt: skip

COMMANDS: dict[str, list[str]] = {
    "group_key make": [
        "make",
        "two",
        "--kit",
        "{kits}/north",
        "--for",
        "{kits}/south/startup/client.crt",
        "--out",
        "{new}.letter",
    ],
    "group_key take": ["take", "{kits}/two.letter", "--kit", "{kits}/south", "--from", "north"],
    "mucald": [JOB, "-w", NEW, "-t", "1", "--seed", "7", "-c", "north,south"],
    "attack": [
        RUN,
        "--out",
        NEW,
        "--sites",
        "north",
        "--threads",
        "1",
        "--max-steps",
        "1",
        "--attacks",
        "mask_inference",
    ],
    "bench": ["segments", "--job", JOB, "--sizes", "16", "--repeats", "1", "--out", NEW],
    "check_data": [SITE, "--out", NEW],
    "contact_sheet": ["--tasks", "kvasir", "--count", "1", "--size", "16", "--out", "{new}.png"],
    "discover_graph": ["--task", "kvasir", "--phantoms", "50", "--bootstrap", "0", "--json", FILE],
    "experiments": ["--jobs", JOB, "--seeds", "7", "--home", HOME, "--threads", "1", "--out", NEW],
    "export": ["--run", RUN, "--site", "north", "--out", NEW],
    "export_job": [JOB, "--out", NEW],
    "frontier": ["--base", JOB, "--attacks", "domain", "--threads", "1", "--home", HOME, "--out", NEW],
    "hold_out": ["{home}/north", "--task", "kvasir", "--site", "north", "--out", NEW],
    "learning_curve": [RUN, "--out", NEW],
    "network_table": [JOB, "--image-size", "32", "--classes", "2"],
    "new_job": [JOB, "--home", HOME, "--out", NEW],
    "predict": [IMAGES, "--run", RUN, "--site", "north", "--out", NEW],
    "prepare_data": [SITE, "--cases", TABLE, "--file-column", "file", "--out", FILE],
    "privacy_account": [JOB, "--images-per-case", "2"],
    "reference": ["--check"],
    "report": [RUN, "--out", NEW],
    "show_job": [JOB, "--changed", "split/mucald"],
    "simulate": [JOB, "-w", NEW, "-t", "1", "-c", "north,south"],
    "simulate again": [JOB, "-w", "{ws}", "-t", "1", "--force"],
    "site_files": ["{sets}", "--home", NEW],
    "site_setup": [KIT, "--templates", str(REPOSITORY / "workspace_templates"), "--check"],
    "submit": [JOB, "--kit", KIT, "--retries", "0", "--timeout", "1", "--wait-for-sites", "0", "--out", NEW],
}
"""A use of every command that has no mistake in it."""

WORDS = ("north", "north,south", "kvasir", "domain", "mask_inference", "split/mucald", "segments", "file")
NOT_POSITIVE = ("x", "", "-1", "0", "1.5", "nan", "99999999999999999999")
NUMBERS = dict.fromkeys(
    (
        "-t",
        "--threads",
        "--repeats",
        "--count",
        "--sizes",
        "--image-size",
        "--images-per-case",
        "--max-steps",
    ),
    NOT_POSITIVE,
) | {
    "--seed": ("x", "", "1.5"),
    "--seeds": ("x", "", "1.5"),
    "--bootstrap": ("x", "", "-1", "nan"),
    "--retries": ("x", "", "-1", "1.5"),
    "--timeout": ("x", "", "-1", "nan", "inf"),
    "--wait-for-sites": ("x", "", "-1", "nan", "inf"),
}
NAMES = ("nobody", "north,north", "server", "a b", "../north", "Köln", "/", "*", "north,", "")
JSON = ("", "{", "[]", "null", "7", '"text"', "\0", "{}", '{"a": 1, "a": 2}', "[" * 100_000, '{"name": []}')
BYTES = (b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b\x08", '{"name": "x"}'.encode("utf-16"))


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """Everything that the commands read, without a mistake."""
    folder = tmp_path_factory.mktemp("ready")
    write_job(folder / "job", tiny_content(PLAIN))
    shutil.copytree(
        run_job(tiny_config(PLAIN, runtime={"record": True}), tmp_path_factory.mktemp("run")).folder
        / "results",
        folder / "run",
    )
    north = folder / "home/north"
    for index in range(4):
        write_pair(north / f"images/{index}.png", north / f"masks/{index}.png", index, top=255)
    (north / "site.json").write_text(json.dumps({"task": "kvasir", "root": ".", "layout": "pairs"}))
    (folder / "home/patients.csv").write_text("file,patient\n" + "".join(f"{i}.png,p{i}\n" for i in range(4)))
    (folder / "sets/kvasir_seg").mkdir(parents=True)
    (folder / "kit/startup").mkdir(parents=True)
    (folder / "kit/startup/fed_client.json").write_text('{"client": {"fqsn": "north"}}')
    (folder / "ws/tiny/server/local").mkdir(parents=True)
    made = provision(tmp_path_factory.mktemp("project"), ["north", "south"])
    for name in ("north", "south"):
        (folder / "kits" / name / "startup").mkdir(parents=True)
        for file in ("fed_client.json", "client.crt", "client.key", "rootCA.pem"):
            shutil.copy(made / name / "startup" / file, folder / "kits" / name / "startup")
    letter = make_key(open_kit(made / "north"), "two", [made / "south/startup/client.crt"])
    (folder / "kits/two.letter").write_text(letter)
    return folder


def broken_file(path: Path, draw: random.Random) -> None:
    """Break a file in one way."""
    way = draw.choice(("gone", "folder", "text", "bytes", "link", "key", "value"))
    content = path.read_bytes()
    if way in ("key", "value") and path.suffix == ".json":
        value = json.loads(content)
        holder = draw.choice([part for part in (value, *value.values()) if isinstance(part, dict) and part])
        key = draw.choice(sorted(holder))
        wrong = draw.choice((None, -1, [], {}, "x", [[]], True, 1e400))
        if way == "key":
            holder[f"{key}x"] = holder.pop(key)
        else:
            holder[key] = wrong if wrong != holder[key] else "y"
        path.write_text(json.dumps(value))
        return
    path.unlink()
    if way == "folder":
        path.mkdir()
    elif way in ("text", "key", "value"):
        path.write_text(draw.choice(JSON))
    elif way == "bytes":
        path.write_bytes(draw.choice(BYTES))
    elif way == "link":
        path.symlink_to("nowhere")


def broken_input(place: Path, draw: random.Random) -> None:
    """Break what lies at ``place``: the file, or the folder or a file in it."""
    if place.is_file():
        broken_file(place, draw)
        return
    way = draw.choice(("gone", "empty", "file", "inside", "inside", "inside"))
    if way == "inside":
        files = sorted(
            path
            for path in place.rglob("*")
            if path.suffix in (".json", ".safetensors", ".sha256", ".crt", ".key", ".pem")
        )
        broken_file(draw.choice(files), draw) if files else shutil.rmtree(place)
        return
    shutil.rmtree(place)
    if way == "empty":
        place.mkdir()
    elif way == "file":
        place.write_text("no folder")


def occupied(place: Path, draw: random.Random) -> str:
    """Make sure that nothing can be written at ``place``; return what to give in its stead."""
    if draw.random() < 0.5 and not place.suffix:
        place.write_text("the user's own")
        return str(place)
    if place.suffix:
        place.mkdir()
        return str(place)
    place.write_text("the user's own")
    return str(place / "within")


def confused(path: Path, draw: random.Random) -> str:
    """Return another path than ``path`` that is easily taken for it."""
    near = [path.parent]
    if path.is_dir():
        near = sorted(found for found in path.rglob("*") if found.suffix in ("", ".json", ".png", ".csv"))
    return str(draw.choice([*near, path.with_suffix(".txt"), "", " "]))


def mistake(command: str, places: dict[str, str], draw: random.Random) -> list[str]:
    """Return the arguments of ``command`` with one mistake, in them or in what they name."""
    templates = COMMANDS[command]
    given = [template.format(**places) for template in templates]
    spots: list[Callable[[], None]] = [lambda: given.append("--no-such-option")]

    def put(index: int, values: Iterable[str]) -> None:
        given[index] = draw.choice(sorted(values))

    def confuse(index: int, path: Path) -> None:
        given[index] = confused(path, draw)

    def occupy(index: int, path: Path) -> None:
        given[index] = occupied(path, draw)

    for index, template in enumerate(templates):
        option, path = templates[index - 1], Path(given[index])
        if template.startswith("{new}"):
            spots += [partial(occupy, index, path), partial(put, index, [""])]
        elif template.startswith("{"):
            spots += [partial(broken_input, path, draw)] * 3
            spots += [partial(put, index, (f"{path}x", f"{path}/x/y")), partial(confuse, index, path)]
        elif option in NUMBERS:
            spots.append(partial(put, index, NUMBERS[option]))
        elif template.startswith("--"):
            spots.append(partial(put, index, [f"{template}-x"]))
        elif template in WORDS:
            spots.append(partial(put, index, NAMES))
    draw.choice(spots)()
    return given


loaded = cache(load_tool)


def status_of(command: str, arguments: list[str]) -> int:
    """Run a command in this process; return its exit status."""
    main = __main__.main if command == "mucald" else loaded(command.split()[0]).main
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def no_processes(monkeypatch):
    """Let commands that start others come as far as that; what follows is those others' part."""
    monkeypatch.setattr("nvflare.recipe.sim_env.SimEnv.deploy", lambda *_: None)
    for verb in ("experiments", "frontier"):
        monkeypatch.setattr(f"mucald_studies.commands.{verb}.run_all", lambda *_: 0)
    monkeypatch.delenv(HOME_VARIABLE, raising=False)


def fault(command: str, status: int, output: str, errors: str) -> str | None:
    """Return what is wrong with how a command told a mistake."""
    if status not in (0, 1, 2):
        return f"status {status}"
    for word in ("Traceback", "unexpected"):
        if word in output + errors:
            return word
    if status == 2 and errors.count("\n") != 1:
        return "a wrong use in several lines"
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    if command == "site_setup":
        # It reports on each kit, and on all that it finds.
        said += [line for line in output.splitlines() if "  WRONG  " in line][:1]
    return None if status == 0 or len(said) == 1 else f"{len(said)} errors"


@pytest.mark.usefixtures("no_processes")
def test_no_mistake_ends_in_a_traceback(ready, tmp_path, monkeypatch, capfd):
    draw, told, harmless, faults = random.Random(SEED), 0, [], []
    for number in range(2 * MISTAKES):
        command = sorted(COMMANDS)[number % len(COMMANDS)]
        folder = tmp_path / str(number)
        shutil.copytree(ready, folder)
        monkeypatch.chdir(folder)
        places = {name: str(folder / name) for name in PLACES}
        arguments = mistake(command, places, draw)
        status = status_of(command, arguments)
        output, errors = capfd.readouterr()
        what = f"{number}: {command} {' '.join(arguments)}\n{output[-1000:]}\n{errors[-2000:]}"
        if found := fault(command, status, output, errors):
            faults.append(f"{found}\n{what}")
        if status == 0:
            harmless.append(what)  # such as another text in place of a description
        told += status != 0
        if told == MISTAKES:
            break
    assert not faults, "\n\n".join(faults)
    assert told == MISTAKES
    assert len(harmless) < MISTAKES / 10, "\n\n".join(harmless)
