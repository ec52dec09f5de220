"""Write a site file for every known public set in a folder, so that a job can train on them.

Run it with ``python tools/site_files.py <folder with the sets> --home <folder of the sites>``; the sites are
named like the sets' folders.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from mucald.command_line import Parser, check_free, program
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
    parser.add_force()
    arguments = parser.parse_args(argv)

    found = [name for name in KNOWN_SETS if (arguments.sets / name).is_dir()]
    if not found:
        parser.error(f"{arguments.sets} holds none of {', '.join(KNOWN_SETS)}")
    files = [SITE_FILE, *([POLICY_FILE] if arguments.open_policy else [])]
    check_free([arguments.home / name / file for name in found for file in files], arguments.force)
    for name in found:
        layout, task = KNOWN_SETS[name]
        content = {"task": task, "root": str((arguments.sets / name).resolve()), "layout": layout}
        if arguments.reproducible:
            content["noise_secret"] = f"public image set {name}"
        path = arguments.home / name / SITE_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if arguments.open_policy:
            policy = json.dumps(asdict(OPEN), indent=2) + "\n"
            path.with_name(POLICY_FILE).write_text(policy, encoding="utf-8")
        print(f"{path}: task {task}, layout {layout}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
