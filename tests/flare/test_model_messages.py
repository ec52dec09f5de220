"""Weights in FLARE's own model messages: what arrives, and what a site's filters make of it."""

import numpy as np
import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import make_reply
from nvflare.app_common.filters.exclude_vars import ExcludeVars
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy
from nvflare.app_common.filters.svt_privacy import SVTPrivacy
from nvflare.fuel.utils import fobs
from nvflare.private.fed.utils.fed_utils import fobs_initialize

from mucald.errors import WireError
from mucald.federation.method import Outcome
from mucald.federation.task import SiteTask
from mucald.flare.protocol import (
    outcome_from_shareable,
    outcome_to_shareable,
    task_from_shareable,
    task_to_shareable,
)

REPORTS = {"north": {"n_train": 3}}
TASK = SiteTask("train", 4, "run-1")


@pytest.fixture(scope="module", autouse=True)
def serialisers():
    """Register FLARE's own decomposers first, as each of its processes does.

    Otherwise the first Shareable that is dumped registers a general one, which loses a Shareable's content;
    tests that log in to a server later in this process would then get empty replies.
    """
    fobs_initialize()


def weights() -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return {"middle.a": torch.randn(40, 5, generator=draws), "middle.b": torch.randn(7, generator=draws)}


def test_weights_go_to_a_site_as_flare_s_weights_and_come_back_as_their_difference():
    task = task_to_shareable(TASK, weights(), "server.job")
    assert from_shareable(task).data_kind == DataKind.WEIGHTS
    result = outcome_to_shareable(Outcome(REPORTS, weights()))
    assert from_shareable(result).data_kind == DataKind.WEIGHT_DIFF
    for tensors in (task_from_shareable("train", task)[1], outcome_from_shareable(result)[1]):
        assert all(torch.equal(tensor, weights()[name]) for name, tensor in tensors.items())
        assert tensors.keys() == weights().keys()
    assert outcome_from_shareable(result)[0] == REPORTS


def test_tensors_survive_flare_s_serialisation():
    result = fobs.loads(fobs.dumps(outcome_to_shareable(Outcome(REPORTS, weights()))))
    reports, tensors = outcome_from_shareable(result)
    assert reports == REPORTS
    assert all(torch.equal(tensors[name], tensor) for name, tensor in weights().items())


def test_a_method_without_tensors_sends_no_model_message():
    task = task_to_shareable(TASK, {}, "server.job")
    assert "DXO" not in task
    assert task_from_shareable("train", task) == (TASK, {}, "server.job")
    assert outcome_from_shareable(outcome_to_shareable(Outcome(REPORTS))) == (REPORTS, {})


@pytest.mark.parametrize(
    "site_filter", [ExcludeVars("a$"), PercentilePrivacy(50, 0.5), SVTPrivacy(0.5, epsilon=1.0, gamma=0.1)]
)
def test_flare_s_filters_act_on_what_a_site_sends(site_filter):
    result = site_filter.process(outcome_to_shareable(Outcome(REPORTS, weights())), FLContext())
    reports, tensors = outcome_from_shareable(result)
    assert reports == REPORTS
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    if isinstance(site_filter, ExcludeVars):
        assert tensors.keys() == {"middle.b"}
    else:
        assert tensors.keys() == weights().keys()
        assert not torch.equal(tensors["middle.a"], weights()["middle.a"])
        assert 0.2 < float((tensors["middle.a"] == 0).float().mean()) < 0.8


def test_a_task_of_a_later_version_is_refused():
    with pytest.raises(WireError, match="asks for a task 'distil', which this version does not know"):
        task_from_shareable("distil", task_to_shareable(TASK, {}, "server.job"))


@pytest.mark.parametrize("content", [None, {}, "weights", {"kind": DataKind.WEIGHT_DIFF, "data": [1]}])
def test_a_message_whose_tensors_cannot_be_read_is_refused(content):
    result = outcome_to_shareable(Outcome(REPORTS, weights()))
    result["DXO"] = content
    with pytest.raises(WireError, match=r"the message's tensors"):
        outcome_from_shareable(result)


def test_what_is_no_tensor_is_refused_by_name():
    result = make_reply(ReturnCode.OK)
    DXO(DataKind.WEIGHT_DIFF, {"middle.a": np.ones(3), "middle.b": [1.0]}).update_shareable(result)
    with pytest.raises(WireError, match=r"'middle\.b' is a list and no tensor"):
        outcome_from_shareable(result)
