"""Write a site file for every known public set in a folder, so that a job can train on them.

Run it with ``python tools/site_files.py <folder with the sets> --home <folder of the sites>``; the sites are
named like the sets' folders.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from mucald.command_line import FORCE, Parser, check_free, program
from mucald.data.site_file import SITE_FILE
from mucald.privacy.policy import OPEN, POLICY_FILE

# Folder of the set: its layout and task.
KNOWN_SETS = {
    "kvasir_seg": ("pairs", "kvasir"),
    "ham10000": ("isic", "ham10k"),
    "Dataset501_CovidCT": ("nnunet", "mosmed"),
    "wbc": ("pairs", "wbc"),
    "hc18": ("hc18", "fetal_head"),
}


@program
def main(argv: list[str] | None = None) -> int:
    """Write the site files and say which; return the exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument("sets", type=Path, help="folder that holds the sets")
    parser.add_argument("--home", type=Path, required=True, help="folder to write <site>/site.json into")
    parser.add_argument(
        "--reproducible", action="store_true", help="use a fixed noise secret; for public images only"
    )
    parser.add_argument("--open-policy", action="store_true", help="allow every job; for public images only")
    parser.add_argument("--force", **FORCE)
    arguments = parser.parse_args(argv)

    found = [name for name in KNOWN_SETS if (arguments.sets / name).is_dir()]
    if not found:
        parser.error(f"{arguments.sets} holds none of {', '.join(KNOWN_SETS)}")
    written: dict[Path, str] = {}
    for name in found:
        layout, task = KNOWN_SETS[name]
        content = {"task": task, "root": str((arguments.sets / name).resolve()), "layout": layout}
        if arguments.reproducible:
            content["noise_secret"] = f"public image set {name}"
        written[arguments.home / name / SITE_FILE] = json.dumps(content, indent=2) + "\n"
        if arguments.open_policy:
            written[arguments.home / name / POLICY_FILE] = json.dumps(asdict(OPEN), indent=2) + "\n"
    others = [
        path for path, text in written.items() if not path.is_file() or path.read_bytes() != text.encode()
    ]
    check_free(others, arguments.force)
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written[path], encoding="utf-8")
    for name in found:
        layout, task = KNOWN_SETS[name]
        print(f"{arguments.home / name / SITE_FILE}: task {task}, layout {layout}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
