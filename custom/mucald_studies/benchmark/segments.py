"""Forward and backward pass of each segment of the network, in other precisions and memory layouts."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from mucald import randomness
from mucald.device import choose_device
from mucald.nets import backbone_of
from mucald.tasks import get_task
from mucald_studies.benchmark.result import Result, ratio
from mucald_studies.jobs import changed
from mucald_studies.reporting.page import Table

PLAIN = "float32"
WAYS: Mapping[str, tuple[str, torch.memory_format]] = {
    PLAIN: ("float32", torch.contiguous_format),
    "bfloat16": ("bfloat16", torch.contiguous_format),
    "float32, channels last": ("float32", torch.channels_last),
    "bfloat16, channels last": ("bfloat16", torch.channels_last),
}
"""``network.precision`` and memory layout by name; the first is what shipped jobs have."""
_WARM_UP = 3

Pass = Callable[[], None]
Seconds = Mapping[str, Mapping[str, float]]
"""By segment and way."""


def measure(
    job: Path, changes: Mapping[str, Any], sizes: Sequence[int], repeats: int = 20
) -> dict[str, dict[int, Seconds]]:
    """Return the seconds of a pass over a mini-batch: by device, side of the image, segment and way.

    Passes are repeated, interleaved, and the median counts.

    Raises:
        ConfigError: the job is wrong, or the network cannot take images of such a side.
    """
    runtime = changed(job, changes).runtime
    device = choose_device(runtime)
    torch.set_num_threads(runtime.threads)
    seconds: dict[int, Seconds] = {}
    for size in sizes:
        passes = {}
        for way, (precision, layout) in WAYS.items():
            more = {"data.image_size": size, "network.precision": precision}
            passes[way] = _passes(changed(job, {**changes, **more}), layout, device)
        seconds[size] = {
            segment: _seconds({way: passes[way][segment] for way in WAYS}, repeats, device)
            for segment in passes[PLAIN]
        }
    return {device.type: seconds}


def _seconds(passes: Mapping[str, Pass], repeats: int, device: torch.device) -> dict[str, float]:
    times: dict[str, list[float]] = {way: [] for way in passes}
    for _ in range(_WARM_UP + repeats):
        for way, run in passes.items():
            start = time.perf_counter()
            run()
            if device.type != "cpu":
                torch.accelerator.synchronize()
            times[way].append(time.perf_counter() - start)
    return {way: median(of_way[_WARM_UP:]) for way, of_way in times.items()}


def _passes(config: Any, layout: torch.memory_format, device: torch.device) -> dict[str, Pass]:
    plan, size = backbone_of(config.network), config.data.image_size
    plan.check_image_size(size)
    n_classes = get_task(next(iter(config.sites.values())).task).n_classes
    segments = {"front end": plan.front_end(), "middle": plan.middle(), "back end": plan.back_end(n_classes)}
    for segment in segments.values():
        convert_conv2d_weight_memory_format(segment.to(device), layout)
    shape = (config.training.batch_size, 3, size, size)
    images = randomness.normal(shape, "images", device=device).contiguous(memory_format=layout)
    with torch.no_grad():
        latent, skips = segments["front end"](images)
    latent = latent.contiguous(memory_format=layout).requires_grad_()
    inputs = {"front end": [images], "middle": [latent], "back end": [latent, skips]}
    return {name: _both_ways(segment, inputs[name]) for name, segment in segments.items()}


def _both_ways(segment: nn.Module, inputs: Sequence[Any]) -> Pass:
    def run() -> None:
        segment.zero_grad(set_to_none=True)
        torch.stack([output.mean() for output in _tensors(segment(*inputs))]).sum().backward()

    return run


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    else:
        for part in output:
            yield from _tensors(part)


def report(found: Mapping[str, Mapping[int, Seconds]]) -> Result:
    """Return a table for each side: milliseconds, and the ratio to what shipped jobs have."""
    tables = {}
    for device, by_size in found.items():
        for size, by_segment in by_size.items():
            rows = [
                [segment, *(_cell(seconds[way], seconds[PLAIN]) for way in WAYS)]
                for segment, seconds in by_segment.items()
            ]
            title = f"{size} px on {device}: ms of a mini-batch's pass (ratio to {PLAIN})"
            tables[title] = Table(["segment", *WAYS], rows)
    return Result("segments", found, tables)


def _cell(seconds: float, plain: float) -> str:
    return f"{1000 * seconds:.2f} ({ratio(seconds, plain):.2f})"
