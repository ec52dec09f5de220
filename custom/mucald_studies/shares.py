"""The files of sites among whom a public set is dealt out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mucald.commands.data.site_files import public_secret, site_texts, write_texts
from mucald.data.records.datalist import build_datalist
from mucald.data.records.layouts import Record
from mucald.data.site_file import SITE_FILE
from mucald.privacy.policy import POLICY_FILE
from mucald.tasks import get_task

DATALIST = "datalist.json"
WRITTEN = (SITE_FILE, DATALIST, POLICY_FILE)
"""What a site's folder then holds."""


def write_share(folder: Path, task: str, of_set: str, splits: Mapping[str, Sequence[Record]]) -> None:
    """Write a site's data list, site file and open policy, and say what it has.

    Args:
        folder: of the site.
        task: its task.
        of_set: name of the public set.
        splits: its records by split, each with that split.
    """
    content = {"task": task, "datalist": DATALIST, "noise_secret": public_secret(of_set)}
    listed = json.dumps(build_datalist(splits, get_task(task), folder), indent=2) + "\n"
    write_texts(site_texts(folder, content, open_policy=True) | {folder / DATALIST: listed})
    sizes = ", ".join(f"{len(chosen)} {split}" for split, chosen in splits.items())
    print(f"{folder}: task {task}, {sizes}")
