"""What a MONAI bundle says of a model of volumes, and how it runs it: plain JSON that needs MONAI alone."""

from typing import Any

from mucald.data.volumes import intensity, resampling
from mucald.federation.method import TrainedModel
from mucald.inference.volumes import plan_for
from mucald.training.windows import OVERLAP

SCRIPTS = {"scripts/resampling.py": resampling, "scripts/intensity.py": intensity}
"""Copies of two modules, so that the bundle makes volumes fit as training does."""

_MIRRORED = (
    "$lambda inputs: sum((lambda logits: logits.flip(way) if logits.ndim == 5 else logits)("
    "@infer(inputs.flip(way))) for way in @ways) / len(@ways)"
)
_NAME = r"re.sub(r'_0000$', '', re.sub(r'\.nii(\.gz)?$', '', pathlib.Path(str(file)).name))"
_SIZES = "[float(size) for size in image.pixdim]"


def data_format(model: TrainedModel) -> dict[str, Any]:
    """Return inputs and outputs for ``metadata.json``."""
    task, size = model.task, list(plan_for(model.config.data, model.task).patch_size)
    masks = task.target == "mask"
    return {
        "inputs": {
            "image": {
                "type": "image",
                "format": "magnitude" if task.modality.startswith("MR") else "hounsfield",
                "modality": task.modality,
                "num_channels": task.channels,
                "spatial_shape": size,
                "dtype": "float32",
                "value_range": [],
                "is_patch_data": masks,
                "channel_def": {str(number): f"channel {number}" for number in range(task.channels)},
            }
        },
        "outputs": {
            "pred": {
                "type": "image" if masks else "probabilities",
                "format": "segmentation" if masks else "classification",
                "num_channels": task.n_classes,
                "spatial_shape": size if masks else [],
                "dtype": "float32",
                # Logits: the largest decides.
                "value_range": [],
                "is_patch_data": masks,
                "channel_def": {str(label): name for label, name in enumerate(task.classes)},
            }
        },
    }


def volume_inference(model: TrainedModel, file: str) -> dict[str, Any]:
    """Return the content of ``configs/inference.json``.

    ``run`` takes the NIfTI volumes of ``dataset_dir``, ``<case>_0000.nii.gz`` and so on where there are
    several channels, and writes a mask of each, or one table of classes, into ``output_dir``: in a sliding
    window with Gaussian weights, mirrored all ways.

    Args:
        model: the trained weights and their job.
        file: of the network, below the bundle.
    """
    plan, task = plan_for(model.config.data, model.task), model.task
    masks = task.target == "mask"
    target = list(plan.spacing) or _SIZES
    content: dict[str, Any] = {
        "imports": [f"$import {name}" for name in ("itertools", "numpy", "pathlib", "re", "runpy", "torch")]
        + ["$from monai.data.meta_tensor import MetaTensor"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/masks'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "channels": task.channels,
        "classes": list(task.classes),
        "pattern": r"[^.].*\.nii(\.gz)?" if task.channels == 1 else r"[^.].*_0000\.nii(\.gz)?",
        "first": "$sorted(p for p in pathlib.Path(@dataset_dir).iterdir() if re.fullmatch(@pattern, p.name))",
        "cases": "$[[str(p) if c == 0 else re.sub(r'_0000(\\.nii(\\.gz)?)$', f'_{c:04}\\\\1', str(p)) "
        "for c in range(@channels)] for p in @first]",
        "name_of": f"$lambda file: {_NAME}",
        "network_def": f"$torch.jit.load(@bundle_root + '/{file}', map_location=@device).eval()",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "LoadImaged",
                    "keys": "image",
                    "reader": "NibabelReader",
                    "ensure_channel_first": True,
                    "dtype": "$numpy.float32",
                },
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
            ],
        },
        "resampling": "$runpy.run_path(@bundle_root + '/scripts/resampling.py')",
        "normalised": "$runpy.run_path(@bundle_root + '/scripts/intensity.py')['normalised']",
        "intensity": list(plan.intensity),
        "resampled": f"$lambda image: @resampling['resampled'](image.numpy(), {_SIZES}, "
        f"@resampling['resampled_shape'](image.shape[1:], {_SIZES}, {target}))",
        "crop": {"_target_": "ResizeWithPadOrCrop", "spatial_size": list(plan.patch_size)},
        "normal": "$lambda image: torch.as_tensor(@normalised(@resampled(image), @intensity))",
        "fitted": f"$lambda image: {'@normal(image)' if masks else '@crop(@normal(image)).as_tensor()'}"
        "[None].to(@device)",
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(plan.patch_size),
            "sw_batch_size": 1,
            "overlap": OVERLAP,
            "mode": "gaussian",
        },
        "infer": f"$lambda inputs: {'@inferer(inputs, @network_def)' if masks else '@network_def(inputs)'}",
        "ways": "$[list(way) for n in range(4) for way in itertools.combinations((2, 3, 4), n)]",
        "mirrored": _MIRRORED,
        "initialize": ["$pathlib.Path(@output_dir).mkdir(parents=True, exist_ok=True)"],
    }
    return content | (_masks() if masks else _classes())


def _masks() -> dict[str, Any]:
    return {
        "labels": (
            "$lambda image: numpy.stack([@resampling['linear'](logits, image.shape[1:]) "
            "for logits in @mirrored(@fitted(image))[0].cpu().numpy()]).argmax(0)"
        ),
        "save": {
            "_target_": "SaveImage",
            "output_dir": "@output_dir",
            "output_postfix": "",
            "output_dtype": "$numpy.uint8",
            "resample": False,
            "separate_folder": False,
            "print_log": False,
            "output_name_formatter": (
                "$lambda meta, saver: {'subject': @name_of(meta['filename_or_obj']), 'idx': None}"
            ),
        },
        "with_labels": (
            "$lambda image: MetaTensor(torch.as_tensor(@labels(image)[None]), meta=image.meta, "
            "applied_operations=image.applied_operations)"
        ),
        "segment": ("$lambda image: @save(@preprocessing.inverse({'image': @with_labels(image)})['image'])"),
        "run": ["$[@segment(@preprocessing({'image': case})['image']) for case in @cases]"],
    }


def _classes() -> dict[str, Any]:
    return {
        "table": "$pathlib.Path(@output_dir) / 'classes.csv'",
        "classify": (
            "$lambda case: [@name_of(case[0]), "
            "*@mirrored(@fitted(@preprocessing({'image': case})['image']))[0].softmax(0).tolist()]"
        ),
        "write": "$lambda rows: @table.write_text(''.join(','.join(map(str, row)) + '\\n' for row in rows))",
        "run": ["$@write([['case', *@classes], *[@classify(case) for case in @cases]])"],
    }
