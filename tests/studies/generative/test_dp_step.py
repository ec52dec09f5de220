"""The benchmark of a step says what it needs."""

import runpy
import sys

import pytest


def test_without_opacus_the_benchmark_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(SystemExit, match=r"pip install 'mucald-studies\[opacus\]'"):
        runpy.run_module("mucald_studies.generative.dp_step")
