"""Print the size of every split network, and of what crosses per image, as a Markdown table.

    mucald network-table --image-size 256
    mucald network-table jobs/mucald jobs/mucald_unet3plus

The first is for the backbones in their published widths, the second for jobs, each at its own image size.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mucald.command_line import Parser, at_least, command
from mucald.errors import ConfigError
from mucald.methods.jobs import load_job
from mucald.nets import BACKBONES, Backbone, build_backbone, parameter_count
from mucald.wire.codec import FORMATS

PUBLISHED_SIZE = 256
# Every choice has as many parameters.
NORM = "instance"
WIRE_TYPES = ("float32", "int8")
COLUMNS = ("backbone", "features", "cut", "front end", "middle", "back end", "latent")
HEADER = (*COLUMNS, *(f"{wire_type} B" for wire_type in WIRE_TYPES))


class Network(NamedTuple):
    """One row's network: arguments of :func:`mucald.nets.build_backbone`, and the image's side in pixels."""

    backbone: str
    features: tuple[int, ...]
    cut: int
    latent_channels: int
    image_size: int


def published(image_size: int) -> list[Network]:
    """Return the backbones in the widths of MuCALD-SplitFed (ICIP 2026), at each cut that makes sense.

    The publication's own cuts are 0 for the U-Net, 1 for the UNet 3+ and 0 for the Swin-Unet, where cut 1 and
    2 put levels of half the width before the Swin stages. A backbone of which it does not tell has the
    U-Net's widths, at each cut that it takes.
    """
    unet, unet3plus, swin = (32, 64, 128, 256, 512), (64, 128, 256, 512, 1024), (32, 64, 128, 256)
    above = {0: (), 1: (16,), 2: (8, 16)}
    networks = [
        *(Network("unet", unet, cut, 32, image_size) for cut in range(len(unet))),
        *(Network("unet3plus", unet3plus, cut, 64, image_size) for cut in range(len(unet3plus) - 1)),
        *(Network("swin_unet", local + swin, cut, 32, image_size) for cut, local in above.items()),
    ]
    told = {network.backbone for network in networks}
    others = (Network(name, unet, cut, 32, image_size) for name in BACKBONES for cut in range(len(unet)))
    return networks + [other for other in others if other.backbone not in told and _fits(other)]


def _fits(network: Network) -> bool:
    try:
        plan_of(network).check_image_size(network.image_size)
    except ConfigError:
        # Not every cut makes sense for every backbone, which alone knows.
        return False
    return True


def plan_of(network: Network) -> Backbone:
    """Return the plan of one network.

    Raises:
        ConfigError: the backbone refuses its arguments.
    """
    return build_backbone(
        network.backbone,
        features=network.features,
        cut=network.cut,
        latent_channels=network.latent_channels,
        norm=NORM,
    )


def of_job(job: Path, image_size: int | None) -> Network:
    """Return the network of a job folder; its own image size unless another is given.

    Raises:
        ConfigError: a file of the job is missing or wrong.
    """
    config: Any = load_job(job)[0]
    n = config.network
    side = image_size or config.data.image_size
    return Network(n.backbone, n.features, n.cut, n.latent_channels, side)


def row(network: Network, n_classes: int) -> list[str]:
    """Return the cells of one network.

    Raises:
        ConfigError: the backbone refuses its arguments or the image size.
    """
    plan = plan_of(network)
    latent = plan.latent_shape(network.image_size)
    # Parameters that are counted need no memory and no first values.
    with torch.device("meta"):
        segments = (plan.front_end(), plan.middle(), plan.back_end(n_classes))
    return [
        network.backbone,
        ", ".join(map(str, network.features)),
        str(network.cut),
        *(f"{parameter_count(segment):,}" for segment in segments),
        " x ".join(map(str, latent)),
        *(f"{FORMATS[wire_type].size((1, *latent)):,}" for wire_type in WIRE_TYPES),
    ]


def table(networks: list[Network], n_classes: int) -> str:
    """Return the Markdown table of ``networks``."""
    rows = [list(HEADER), ["---", "---", *["---:"] * (len(HEADER) - 2)]]
    rows += [row(network, n_classes) for network in networks]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald network-table", description=__doc__)
    parser.add_argument("jobs", type=Path, nargs="*", help="job folders; the published widths if none")
    parser.add_argument(
        "--image-size", type=at_least(1), help=f"side in pixels; the job's, or {PUBLISHED_SIZE}"
    )
    parser.add_argument("--classes", type=at_least(2), default=2, help="classes of the back end's task")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    networks = [of_job(job, arguments.image_size) for job in arguments.jobs]
    networks = networks or published(arguments.image_size or PUBLISHED_SIZE)
    text = table(networks, arguments.classes)
    print(f"Parameters per segment ({arguments.classes} classes), and bytes of one image's latent:\n\n{text}")
    return 0


main = command(describe, run)
