"""Commands of a document, run in the tests' own process, which spares them a start of torch each."""

import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from tiny_job import REPOSITORY

from mucald import __main__


def blocks(document: str) -> list[tuple[str, str]]:
    """Return the commands of each block of a document, and the text after it, which shows what they print."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    found = [*re.findall(r"```(bash|text)\n(.*?)```", text, flags=re.DOTALL), ("bash", "")]
    return [
        (content, after if other == "text" else "")
        for (kind, content), (other, after) in pairwise(found)
        if kind == "bash"
    ]


def run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run one line in a folder; return whether it was a verb of ``mucald``."""
    if line.startswith("export "):
        name, _, value = line.removeprefix("export ").partition("=")
        monkeypatch.setenv(name, value.replace("$PWD", str(folder)))
    elif line.startswith("mucald "):
        assert __main__.main(shlex.split(line)[1:]) == 0, line
        return True
    else:
        subprocess.run(["bash", "-c", line], cwd=folder, check=True)
    return False
