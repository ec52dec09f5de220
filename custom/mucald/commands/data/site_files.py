"""Write a site file for every known public set in a folder, so that a job can train on them.

    mucald site-files sets --home home

The sites are named like the folders of the sets.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mucald.command_line import FORCE, Found, Parser, WrongUseError, add_json_option, check_free, command
from mucald.data.site_file import SITE_FILE
from mucald.privacy.policy import OPEN, POLICY_FILE

# Folder of the set: its layout and task.
KNOWN_SETS = {
    "kvasir_seg": ("pairs", "kvasir"),
    "ham10000": ("isic", "ham10k"),
    "Dataset501_CovidCT": ("nnunet", "mosmed"),
    "Dataset502_CardiacMR": ("nnunet", "heart"),
    "wbc": ("pairs", "wbc"),
    "hc18": ("hc18", "fetal_head"),
}


def site_texts(folder: Path, content: Mapping[str, str], open_policy: bool) -> dict[Path, str]:
    """Return the texts of a site's files by path: its ``site.json``, and an open ``policy.json`` if wanted.

    Args:
        folder: of the site.
        content: of its ``site.json``.
        open_policy: whether it allows every job; for public images only.
    """
    found = {SITE_FILE: dict(content)} | ({POLICY_FILE: asdict(OPEN)} if open_policy else {})
    return {folder / name: json.dumps(value, indent=2) + "\n" for name, value in found.items()}


def public_secret(name: str) -> str:
    """Return the noise secret of a public set, which everybody may know."""
    return f"public image set {name}"


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write files, and the folders that they are in."""
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald site-files", description=__doc__)
    parser.add_argument("sets", type=Path, help="folder that holds the sets")
    parser.add_argument("--home", type=Path, required=True, help="folder to write <site>/site.json into")
    parser.add_argument(
        "--reproducible", action="store_true", help="use a fixed noise secret; for public images only"
    )
    parser.add_argument("--open-policy", action="store_true", help="allow every job; for public images only")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the site files and say which."""
    found = [name for name in KNOWN_SETS if (arguments.sets / name).is_dir()]
    if not found:
        raise WrongUseError(f"{arguments.sets} holds none of {', '.join(KNOWN_SETS)}")
    written: dict[Path, str] = {}
    for name in found:
        layout, task = KNOWN_SETS[name]
        content = {"task": task, "root": str((arguments.sets / name).resolve()), "layout": layout}
        if arguments.reproducible:
            content["noise_secret"] = public_secret(name)
        written |= site_texts(arguments.home / name, content, arguments.open_policy)
    others = {
        path: text
        for path, text in written.items()
        if not path.is_file() or path.read_bytes() != text.encode()
    }
    check_free(others, arguments.force)
    write_texts(others)
    for name in found:
        layout, task = KNOWN_SETS[name]
        print(f"{arguments.home / name / SITE_FILE}: task {task}, layout {layout}")
    return Found({"site_files": [arguments.home / name / SITE_FILE for name in found]})


main = command(describe, run)
