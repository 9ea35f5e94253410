"""``torch.compile`` is used where it pays, and never needed."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from deblur.device import choose_numerics
from deblur.training import compiling
from deblur.training.compiling import compile_where_it_pays, step_time
from deblur.training.config import make_config
from deblur.training.plan import Plan, make_plan
from deblur.training.run import TrainingRun
from tests.conftest import TINY


def a_run(mode: str, steps: int = 100) -> tuple[TrainingRun, Plan]:
    config = make_config("seed", {**TINY, "compile": mode, "num_epochs": 1, "batch_size": 2})
    return (
        TrainingRun(config, "digest", choose_numerics("fp32", "cpu")),
        make_plan(config, lambda size: 2 * steps),
    )


def compiler(monkeypatch: pytest.MonkeyPatch, result: Callable[[nn.Module], Any]) -> list[str]:
    """Stand in for torch.compile; returns the list that its calls are noted in."""
    calls: list[str] = []

    def stand_in(network: nn.Module, dynamic: bool) -> Any:
        calls.append(type(network).__name__)
        return result(network)

    monkeypatch.setattr(torch, "compile", stand_in)
    return calls


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_on_a_cpu_it_is_left_alone_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    calls = compiler(monkeypatch, lambda network: network)
    run, plan = a_run(mode)
    compile_where_it_pays(run, plan)
    assert calls == []
    assert run.forward is run.model
    assert not run.compiled


def test_without_a_compiler_training_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(network: nn.Module) -> Any:
        raise RuntimeError("Compiler: cl is not found.\nlong story")

    compiler(monkeypatch, fail)
    run, plan = a_run("on")
    with caplog.at_level(logging.WARNING):
        compile_where_it_pays(run, plan)
    assert "goes on without it: Compiler: cl is not found." in caplog.text
    assert run.forward is run.model
    assert not run.compiled


@pytest.mark.parametrize(("saved", "chosen"), [(0.9, True), (0.1, False)])
def test_auto_on_a_gpu_weighs_what_is_saved_against_compiling(
    monkeypatch: pytest.MonkeyPatch, saved: float, chosen: bool
) -> None:
    # 100 steps that save 0.9 s each against a compilation of 30 s, or 0.1 s each.
    compiler(monkeypatch, lambda network: nn.Sequential(network))
    times = {"DeblurUNet": (1.0, 1.0), "Sequential": (1.0 - saved, 30.0)}
    monkeypatch.setattr(compiling, "step_time", lambda network, *_: times[type(network).__name__])
    run, plan = a_run("auto")
    run.numerics = type(run.numerics)(torch.device("cuda"), torch.bfloat16)
    compile_where_it_pays(run, plan)
    assert run.compiled is chosen
    assert isinstance(run.forward, nn.Sequential) is chosen


def test_a_run_that_was_compiled_is_compiled_again_without_measuring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = compiler(monkeypatch, lambda network: network)
    monkeypatch.setattr(compiling, "step_time", lambda *_: pytest.fail("measured"))
    run, plan = a_run("auto")
    run.compiled = True
    compile_where_it_pays(run, plan)
    assert calls == ["DeblurUNet"]


def test_measuring_leaves_the_weights_without_gradients() -> None:
    run, _ = a_run("on")
    best, first = step_time(run.model, run.numerics, (1, 3, 32, 32))
    assert 0 < best <= first
    assert all(weight.grad is None for weight in run.model.parameters())
