"""A tiny job of every kind of method: what the conformance suite runs over. A new method adds its line."""

from typing import Any

from tiny_job import CONTENT, PLAIN, tiny_content

from mucald.config.job import JobConfig
from mucald.methods.jobs import parse_config

_COMMON = ("name", "description", "seed", "min_sites", "resume_from", "sites", "data", "training", "runtime")
_WHOLE: dict[str, Any] = {
    **{key: CONTENT[key] for key in _COMMON},
    "network": CONTENT["network"],
    "clip": 3.0,
    "cross_entropy": 0.5,
    "optimiser": {"learning_rate": 0.001, "weight_decay": 0.01, "clip_norm": 1.0},
}
_ONCE = {"release": {"mode": "once", "pretraining_epochs": 1}}
_AS_PRACTISED = CONTENT["training"] | {"augmentation": 1.0, "schedule": "cosine", "warm_up": 0.1}
_GROUPS = {"name": "groups", "args": {"rule": "by_size"}}
_YOGI = {"name": "yogi", "learning_rate": 0.01, "rounds": 2}
_GENERATIVE: dict[str, Any] = {
    **{key: CONTENT[key] for key in _COMMON},
    "method": "generative",
    "sites": {site: {"task": "phantom_kind"} for site in CONTENT["sites"]},
    "data": {"image_size": 16, "phantoms": {"train": 14, "validation": 7, "test": 7}},
    "training": CONTENT["training"] | {"local_epochs": 2},
    "features": {"dimension": 8},
    "privacy": {"epsilon": 4.0},
    "downstream": {"epochs": 3, "per_class": 2},
}
_WEIGHTS = _WHOLE | {"method": "weights", "shared": ["front_end", "middle"]}
_SITES = {"north": {"task": "liver"}, "south": {"task": "brain"}, "west": {"task": "liver_lesion"}}
_DYNUNET = {"backbone": "dynunet", "features": [4, 6, 8], "adaptor_channels": 4}
_VOLUMES = _WHOLE | {
    "method": "weights",
    "sites": _SITES,
    "data": CONTENT["data"] | {"volumes": {"patch_size": [16, 16, 16], "phantom_size": [16, 16, 16]}},
    "network": _DYNUNET,
    "shared": ["encoder"],
    "shared_in_modality": ["adaptor"],
    "algorithm": {"name": "fedcmt", "args": {"c": 0.4, "optimiser": _YOGI}},
}


def whole_content(*changes: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a tiny job whose sites train whole networks, with top-level ``changes``."""
    content = dict(_WHOLE)
    for change in changes:
        content |= change
    return content


METHODS: dict[str, dict[str, Any]] = {
    "split fresh": tiny_content(),
    "split once": tiny_content(_ONCE),
    "split fresh augmented": tiny_content(training=_AS_PRACTISED),
    "split once augmented": tiny_content(_ONCE, training=_AS_PRACTISED),
    "split in turn": tiny_content(
        PLAIN, {"algorithm": {"name": "splitfed_v2"}, "aggregation": {"rule": "local"}}
    ),
    "split groups": tiny_content({"algorithm": _GROUPS}),
    "split parting": tiny_content(
        {"algorithm": _GROUPS}, {"algorithm": {"args": {"parting": {"conflict": 1e-9, "memory": 0.0}}}}
    ),
    "split sealed": tiny_content({"algorithm": _GROUPS}, {"algorithm": {"args": {"sealed": True}}}),
    "split hand-over": tiny_content({"handover": {"epochs": 2}}),
    "weights fedavg": _WEIGHTS | {"algorithm": {"name": "fedavg"}},
    "weights fedprox": _WEIGHTS | {"algorithm": {"name": "fedprox", "args": {"mu": 0.1}}},
    "weights fedopt": _WEIGHTS | {"algorithm": {"name": "fedopt", "args": {"optimiser": _YOGI}}},
    "weights fedcmt": _WEIGHTS
    | {"algorithm": {"name": "fedcmt", "args": {"c": 0.4, "optimiser": _YOGI, "per": "block"}}},
    "weights fedhca": _WEIGHTS
    | {"shared": ["front_end", "middle", "back_end"], "algorithm": {"name": "fedhca"}},
    "weights fedbn": _WEIGHTS | {"algorithm": {"name": "fedbn"}},
    "weights fedrep": _WEIGHTS
    | {
        "algorithm": {"name": "fedrep", "args": {"head_epochs": 1}},
        "training": CONTENT["training"] | {"local_epochs": 2},
    },
    "weights ditto": _WEIGHTS | {"algorithm": {"name": "ditto", "args": {"weight": 0.1}}},
    "weights distilled": _WEIGHTS
    | {
        "algorithm": {"name": "fedavg"},
        "distillation": {"weight": 0.5, "warm_up": 0.5, "ramp": 0.0},
    },
    "weights groups": _WEIGHTS
    | {
        "shared": ["middle"],
        "shared_in_group": ["front_end", "back_end"],
        "algorithm": {"name": "fedavg"},
    },
    "weights clustered": _WEIGHTS
    | {"algorithm": {"name": "clustered", "args": {"conflict": 1e-9, "memory": 0.0}}},
    "weights adaptive": _WEIGHTS | {"algorithm": {"name": "adaptive", "args": {"memory": 0.5}}},
    "weights volumes": _VOLUMES,
    "weights dynunet 2-D": _WHOLE
    | {
        "method": "weights",
        "network": _DYNUNET,
        "shared": ["encoder"],
        "shared_in_modality": ["adaptor"],
        "algorithm": {"name": "fedavg"},
    },
    "weights augmented": _WEIGHTS | {"algorithm": {"name": "fedavg"}, "training": _AS_PRACTISED},
    "generative cvae": _GENERATIVE | {"algorithm": {"name": "cvae"}},
    "generative cvae without noise": _GENERATIVE
    | {
        "algorithm": {"name": "cvae", "args": {"hidden": [6, 5], "latent": 2}},
        "privacy": {"epsilon": None},
    },
    "generative cgan": _GENERATIVE
    | {"algorithm": {"name": "cgan", "args": {"hidden": [6], "latent": 2}}, "optimiser": {"name": "sgd"}},
    "generative classifier": _GENERATIVE | {"algorithm": {"name": "fedlambda"}},
    "generative fedprox": _GENERATIVE | {"algorithm": {"name": "fedprox"}, "privacy": {"epsilon": None}},
    "pooled augmented": _WHOLE
    | {"method": "pooled", "participant": "hospital", "min_sites": 1, "training": _AS_PRACTISED},
    "pooled": _WHOLE | {"method": "pooled", "participant": "hospital", "min_sites": 1},
}


def config_of(method: str, **changes: Any) -> JobConfig:
    """Return the tiny job of a method, with top-level keys replaced."""
    return parse_config(METHODS[method] | changes)
