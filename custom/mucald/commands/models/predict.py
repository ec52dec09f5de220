"""Segment images with a site's trained model: a mask per image, in its geometry, and a summary.

    mucald predict images/ --run workspace --site polyp --out masks
    mucald predict images/ --model polyp.safetensors --server-model server.safetensors --out masks

Takes PNG, JPEG, BMP, TIFF, WebP and NIfTI files. A model whose task has volumes takes NIfTI, one file per
channel (``<name>_0000.nii.gz``, ...), in a sliding window; of a task of classes the summary tells their
probabilities. A model is two files: the site's, and the server's part,
which the operator of the server hands over; one of ``baseline_centralized``, or of a job with a hand-over, is
one file. Nothing leaves the machine. Research software; not for diagnosis.
"""

import argparse
import sys
from pathlib import Path

from mucald.command_line import FORCE, Found, Parser, add_json_option, check_free, command
from mucald.commands.models.chosen import add_model_options, check_model_options, model_of
from mucald.device import choose_device
from mucald.errors import DataError
from mucald.inference.images import find_inputs, passed_over
from mucald.inference.model_files import TrainedModel
from mucald.inference.predict import SUMMARY, Predict, Segmenter, check_apart, predict_images
from mucald.inference.remarks import remarks
from mucald.inference.volumes import Mirrored, VolumePredictor, plan_for, predict_volumes
from mucald.methods import Replaying


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald predict", description=__doc__)
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    add_model_options(parser)
    parser.add_argument(
        "--channels", action="store_true", help="<name>_0000, <name>_0001, … are channels of one image"
    )
    parser.add_argument(
        "--as-tested",
        type=Path,
        metavar="HOME",
        help="draw the noise as the run's test did, from the secret in the site's own folder; for a check",
    )
    parser.add_argument(
        "--unmirrored",
        action="store_true",
        help="of volumes: pass each through once instead of eight times mirrored; faster, and rarely as good",
    )
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def _predictor(model: TrainedModel, unmirrored: bool) -> VolumePredictor:
    device, network = choose_device(model.config.runtime), model.network()
    network = network.to(device).eval()
    plan = plan_for(model.config.data, model.task)
    return VolumePredictor(network if unmirrored else Mirrored(network), model.task, plan, device)


def run(arguments: argparse.Namespace) -> Found:
    """Write the masks; the status is 1 if an image could not be read."""
    check_model_options(arguments)
    model = model_of(arguments)
    # Of volumes nnU-Net's names are the rule.
    channels = arguments.channels or model.task.input == "volume"
    inputs = find_inputs(arguments.images, channels)
    check_apart(inputs, arguments.out)
    names = (SUMMARY, *(image.mask_name for image in inputs))
    check_free([arguments.out / name for name in names], arguments.force)
    said = remarks(arguments.images, inputs, channels, model.task)
    for words in (*said, *passed_over(arguments.images)):
        print(words)
    predict: Predict = model.network()
    if arguments.as_tested is not None and model.server_weights and isinstance(model.family, Replaying):
        if not arguments.as_tested.is_dir():
            raise DataError(f"--as-tested {arguments.as_tested}: no such folder")
        predict = model.family.replay(model, arguments.as_tested)
    config = model.config
    if model.task.input == "volume":
        faults = predict_volumes(inputs, _predictor(model, arguments.unmirrored), arguments.out)
    else:
        segmenter = Segmenter(predict, config.data.image_size, config.training.batch_size)
        faults = predict_images(inputs, segmenter, model.task, arguments.out)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    done = len(inputs) - len(faults)
    written = f"{done} masks and" if model.task.target == "mask" else f"the classes of {done} volumes:"
    print(f"{written} {SUMMARY} in {arguments.out}")
    if done and model.task.target == "mask" and model.task.input == "image":
        print("a mask holds the number of each pixel's class, from 0, so most viewers show it black")
    value = {"masks": done, "summary": arguments.out / SUMMARY, "faults": faults}
    return Found(value, status=1 if faults else 0)


main = command(describe, run)
