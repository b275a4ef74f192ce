"""The benchmark of training takes the steps that it says it takes."""

import importlib.util
import sys

import pytest

import train
from command_line.process import blas_threads, get_blas_threads
from programs import ROOT


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("bench", ROOT / "benchmarks" / "training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_our_side_goes_through_train(benchmark, monkeypatch, optimizer):
    calls, update = [], getattr(train, optimizer)

    def count(*arguments, **settings):
        calls.append(optimizer)
        update(*arguments, **settings)

    monkeypatch.setattr(train, optimizer, count)
    monkeypatch.setitem(benchmark.SHAPES, "tiny", ((50, 8, 12, 2, 1), 3, 8, (1,)))
    before = get_blas_threads()
    with blas_threads(before):
        step = benchmark.ours("tiny", optimizer)
        told = [step(1), step(1)]
        assert get_blas_threads() == (None if before is None else 1)
    assert [step.number for step in told] == [1, 2]
    assert len(calls) == 2
    assert told[0].lr == pytest.approx(1e-4) and told[1].loss < 5
