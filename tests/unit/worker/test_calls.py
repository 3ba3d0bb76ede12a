"""Calls of a subject that keeps a state: each begins from the same one, and other subjects are left alone."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qx_plugins.metrics import latency

from qx import Block, Point
from qx.errors import PluginError, QxError
from qx.testing import for_loaders
from qx.testing.answers import ServeAnswer
from qx.testing.stateful import PROMPT, Growing, Stateful
from qx.testing.verdicts import Failed
from qx.testing.worker import serve
from qx.worker.arrays import Split
from qx.worker.calls import Calls
from qx.worker.warming import warm_up

INPUTS = {"points": np.arange(6.0, dtype=np.float32).reshape(3, 2)}
NATIVE = INPUTS["points"]


class Watched(Stateful):
    """Notes how many inputs are in the cache at the end of each call."""

    def __init__(self) -> None:
        super().__init__(np.negative)
        self.lengths: list[int] = []
        self.resets = 0

    def call(self, native: np.ndarray) -> np.ndarray:
        returned = super().call(native)
        self.lengths.append(len(self.cache))
        return returned

    def reset(self, native: np.ndarray, kind: str) -> None:
        super().reset(native, kind)
        self.resets += 1


def _block(calls: Calls, kind: str, number: int) -> Block:
    point = Point(3, call=kind)
    reset = calls.reset(NATIVE, kind)
    return Block(native=NATIVE, point=point, calls=number, call=calls.call(kind), reset=reset)


def test_a_subject_without_a_state_is_called_as_it_is() -> None:
    """Nothing is put around the calls of a subject with neither ``reset`` nor ``kinds``."""
    subject = Growing(np.negative)
    calls = Calls(subject, "mine")
    assert calls.subject() is subject
    assert calls.call("call") == subject.call
    assert calls.reset(NATIVE, "call") is None
    assert calls.kinds == ()


@pytest.mark.parametrize(("kind", "length"), [("call", 1), ("decode", PROMPT + 1)])
def test_every_timed_call_begins_from_the_same_state(kind: str, length: int) -> None:
    """``latency`` times 40 calls with as many inputs in the cache, each after a reset."""
    subject = Watched()
    assert len(latency.measure(_block(Calls(subject, "mine"), kind, 40))) == 40
    assert subject.lengths == [length] * 40
    assert subject.resets == 40


def test_a_metric_that_knows_of_no_reset_measures_no_growing_cache() -> None:
    """``subject.call`` of a subject as metrics get it resets by itself, once a call, for each kind."""
    subject = Watched()
    calls = Calls(subject, "mine")
    for kind in ("call", "decode", "call"):
        served = calls.subject(kind)
        returned = [served.call(NATIVE) for _ in range(3)]
        assert all(np.array_equal(served.outputs(array)["output"], returned[0]) for array in returned)
    assert subject.lengths == [1] * 3 + [PROMPT + 1] * 3 + [1] * 3
    assert subject.resets == 9


def test_a_warm_up_resets_and_counts_it_apart() -> None:
    """A warm-up calls from the same state, and says how long a reset takes beside a call."""
    subject = Watched()
    calls = Calls(subject, "mine")
    answer = warm_up(calls.call("decode"), NATIVE, 0.01, calls.reset(NATIVE, "decode"))
    assert set(subject.lengths) == {PROMPT + 1}
    assert subject.resets == answer.calls
    assert answer.reset > 0
    assert warm_up(np.negative, NATIVE, 0.01).reset == 0


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"call": None}, r"mine: load gave a SimpleNamespace without call\(\)"),
        ({"reset": True}, r"reset of the subject must be a function reset\(native, kind\)"),
        ({"kinds": ["decode"]}, "kinds of the subject must map names to functions, not be a list"),
        ({"kinds": {"call": print}}, "'call' is no name of a further kind of call; expected small letters"),
        ({"kinds": {"De code": print}}, "'De code' is no name of a further kind of call"),
        ({"kinds": {"decode": 3}}, "the call of kind 'decode' must be a function, not of type int"),
    ],
)
def test_members_that_are_none_are_refused(members: dict[str, Any], message: str) -> None:
    """A subject with wrong kinds or a wrong reset is its loader's error, in words."""
    steps = dict.fromkeys(("prepare", "call", "outputs"), print)
    with pytest.raises(PluginError, match=message):
        Calls(SimpleNamespace(**{**steps, **members}), "mine")


def test_a_kind_that_is_gone_is_named() -> None:
    """A launch whose subject lacks a kind that the evaluation saw says which ones it has."""
    with pytest.raises(QxError, match=r"no calls of kind 'prefill'.*it has call, decode"):
        Calls(Stateful(np.negative), "mine").call("prefill")


def _checked(make: Callable[[Any], Any]) -> str:
    """Return what the kit's check says of a loader whose subject this is. Raises ``Failed``."""
    calls, split = Calls(make(np.negative), "mine"), Split(INPUTS, {}, (), "three points")
    behaviour, _ = serve._serve(calls.subject(), split, 3, "mine")
    answer = ServeAnswer(
        probed=False,
        newly_imported=(),
        during_load=(),
        served=(behaviour,),
        repeated_kinds={kind: serve._repeats(calls.subject(kind), split, "mine") for kind in calls.kinds},
        busy_threads=(),
    )
    bench: Any = SimpleNamespace(cached=lambda name, function: SimpleNamespace(answer=answer))
    return for_loaders.deterministic(bench)


class HalfReset(Stateful):
    """Forgets to reset calls of the kind ``decode``."""

    def reset(self, native: np.ndarray, kind: str) -> None:
        if kind == "call":
            super().reset(native, kind)


def test_the_kit_wants_a_reset_where_calls_change_a_state() -> None:
    """A cache that grows fails the kit's check in words; the same subject with a reset passes it."""
    assert _checked(Stateful) == "the same again, decode"
    with pytest.raises(Failed, match=r"called again: if calls change a state.*reset\(native, kind\)"):
        _checked(Growing)
    with pytest.raises(
        Failed, match=r"calls of kind 'decode' give different outputs .*reset\(native, kind\)"
    ):
        _checked(HalfReset)
