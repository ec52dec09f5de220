"""Write a site's trained model as a MONAI bundle with a TorchScript file, and check both against the model.

    mucald export --run workspace --site polyp --out bundle

``bundle/models/model.ts`` takes images (B, 3, S, S) in [0, 1] and returns logits (B, C, S, S); the release's
noise is within it as one fixed draw. ``bundle/configs`` tells inputs, outputs and classes, and how to segment
a folder of pictures. Of a task of volumes the network takes patches, and the bundle runs a folder of NIfTI
files in a sliding window. The file holds the server's part too. Research software; not for diagnosis.
"""

import argparse
from pathlib import Path

from mucald.command_line import FORCE, Found, Parser, add_json_option, check_free, command
from mucald.commands.models.chosen import add_model_options, check_model_options, model_of
from mucald.inference.bundle import INFERENCE, METADATA, MODEL
from mucald.inference.export import export


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald export", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder, to be made")
    add_model_options(parser)
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the bundle, and say how far its files are from the model."""
    check_model_options(arguments)
    check_free([arguments.out / part for part in (MODEL, METADATA, INFERENCE)], arguments.force)
    differences = export(model_of(arguments), arguments.out)
    for name, difference in differences.items():
        print(f"{name}: logits differ from the model's by {difference:.1e} at most")
    print(f"bundle in {arguments.out}")
    return Found({"bundle": arguments.out, "largest_difference": differences})


main = command(describe, run)
