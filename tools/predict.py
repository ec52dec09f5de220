"""Segment images with a site's trained model: a mask per image, in its geometry, and a summary.

    python tools/predict.py images/ --run workspace --site polyp --out masks
    python tools/predict.py images/ --model polyp.safetensors --server-model server.safetensors --out masks

Takes PNG, JPEG, BMP, TIFF, WebP and NIfTI files. A model is two files: the site's, and the server's part,
which the operator of the server hands over; one of ``baseline_centralized``, or of a job with a hand-over, is
one file. Nothing leaves the machine. Research software; not for diagnosis.
"""

import argparse
import sys
from pathlib import Path

from mucald.command_line import FORCE, Parser, check_free, program
from mucald.errors import DataError
from mucald.inference.images import find_inputs, passed_over
from mucald.inference.model_files import TrainedModel, find_model_files, load_model
from mucald.inference.predict import SUMMARY, Segmenter, check_apart, predict_images
from mucald.inference.remarks import remarks
from mucald.methods.split.as_tested import TestReplay


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--run", type=Path, help="the folder of a run, where both files of the model lie")
    parser.add_argument("--site", help="with --run: whose model")
    parser.add_argument("--model", type=Path, help="instead of --run: the site's file")
    parser.add_argument("--server-model", type=Path, help="with --model: the server's file")
    parser.add_argument(
        "--channels", action="store_true", help="<name>_0000, <name>_0001, … are channels of one image"
    )
    parser.add_argument(
        "--as-tested",
        type=Path,
        metavar="HOME",
        help="draw the noise as the run's test did, from the secret in the site's own folder; for a check",
    )
    parser.add_argument("--force", **FORCE)
    arguments = parser.parse_args(argv)
    if (arguments.run is None) == (arguments.model is None):
        parser.error("give either --run with --site, or --model")
    if (arguments.run is None) != (arguments.site is None):
        parser.error("--run and --site go together")
    if arguments.server_model is not None and arguments.model is None:
        parser.error("--server-model goes with --model; with --run it is found by itself")
    return arguments


def model_of(arguments: argparse.Namespace) -> TrainedModel:
    """Read the model that the command line names.

    Raises:
        MucaldError: see :func:`load_model` and :func:`find_model_files`.
    """
    if arguments.run is None:
        return load_model(arguments.model, arguments.server_model)
    return load_model(*find_model_files(arguments.run, arguments.site))


@program
def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status: 1 if an image could not be read."""
    arguments = _arguments(argv)
    model = model_of(arguments)
    inputs = find_inputs(arguments.images, arguments.channels)
    check_apart(inputs, arguments.out)
    names = (SUMMARY, *(image.mask_name for image in inputs))
    check_free([arguments.out / name for name in names], arguments.force)
    said = remarks(arguments.images, inputs, arguments.channels, model.task)
    for words in (*said, *passed_over(arguments.images)):
        print(words)
    # The test of a network that the site has as a whole has no noise to repeat.
    replay = arguments.as_tested is not None and bool(model.server_weights)
    if replay and not arguments.as_tested.is_dir():
        raise DataError(f"--as-tested {arguments.as_tested}: no such folder")
    predict = TestReplay(model, arguments.as_tested) if replay else model.network()
    config = model.config
    segmenter = Segmenter(predict, config.data.image_size, config.training.batch_size)
    faults = predict_images(inputs, segmenter, model.task, arguments.out)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    print(f"{len(inputs) - len(faults)} masks and {SUMMARY} in {arguments.out}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
