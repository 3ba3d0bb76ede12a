"""The calls of a loaded subject, by kind, each from the state that its ``reset`` makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, cast

from qx.contract.devices import CallTimes, Device
from qx.contract.figures import CALL, CALL_NAME
from qx.contract.records import Subject
from qx.devices.timing import WarmUp, synchronised, time_calls, warm_up
from qx.errors import PluginError, QxError
from qx.values import Native

#: What is timed of a call.
Call: TypeAlias = Callable[[Native], Native]


class Calls:
    """The calls of a subject, by kind.

    Of a subject on the CPU with neither ``kinds`` nor ``reset`` everything is passed on as it is, so that
    nothing is added to its calls. On a device with a queue every call returns when the queue is empty.
    """

    def __init__(self, subject: Subject, loader: str, device: Device | None = None) -> None:
        """Raise ``PluginError`` for a subject that lacks a step, or whose further members are wrong."""
        for step in ("prepare", "call", "outputs"):
            if not callable(getattr(subject, step, None)):
                raise PluginError(f"{loader}: load gave a {type(subject).__name__} without {step}()")
        self._reset: Callable[[Native, str], object] | None = getattr(subject, "reset", None)
        if self._reset is not None and not callable(self._reset):
            raise PluginError(f"{loader}: reset of the subject must be a function reset(native, kind)")
        further: object = getattr(subject, "kinds", {})
        if not isinstance(further, Mapping):
            raise PluginError(
                f"{loader}: kinds of the subject must map names to functions, not be a "
                f"{type(further).__name__}"
            )
        for kind, call in further.items():
            if kind == CALL or not isinstance(kind, str) or not re.fullmatch(CALL_NAME, kind):
                raise PluginError(
                    f"{loader}: {kind!r} is no name of a further kind of call; expected small letters, "
                    f"digits and underscores, and not {CALL!r}"
                )
            if not callable(call):
                raise PluginError(
                    f"{loader}: the call of kind {kind!r} must be a function, not of type "
                    f"{type(call).__name__}"
                )
        self.device = device
        #: The calls that return when their work is in the device's queue; on the CPU when it is done.
        self._enqueued: dict[str, Call] = {CALL: subject.call, **further}
        self._calls = self._enqueued
        if device is not None:
            self._calls = {kind: synchronised(device, call) for kind, call in self._enqueued.items()}
            self._reset = None if self._reset is None else synchronised(device, self._reset)
        self._subjects = {kind: self._subject(subject, kind) for kind in self._calls}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of call beside ``CALL``."""
        return tuple(kind for kind in self._calls if kind != CALL)

    def subject(self, kind: str = CALL) -> Subject:
        """Return a subject whose ``call`` is of that kind, and resets the state first.

        Raises ``QxError`` for a kind that the subject does not have.
        """
        self._check(kind)
        return self._subjects[kind]

    def call(self, kind: str) -> Call:
        """Return what is timed of a call of that kind: the call alone, which follows a reset."""
        self._check(kind)
        return self._calls[kind]

    def reset(self, native: Native, kind: str) -> Callable[[], object] | None:
        """Return the function that is called before each call of that kind; None where there is none."""
        return None if self._reset is None else partial(self._reset, native, kind)

    def warm_up_on_device(self, native: Native, kind: str) -> WarmUp:
        """Call until the times and the clocks of the device are steady."""
        assert self.device is not None
        return warm_up(self.device, self._enqueued[kind], native, reset=self.reset(native, kind))

    def timer(self, native: Native, kind: str, calls: int) -> Callable[[], CallTimes] | None:
        """Return the function that times so many calls by both clocks; None on the CPU."""
        if self.device is None:
            return None
        self._check(kind)
        reset = self.reset(native, kind)
        return partial(time_calls, self.device, self._enqueued[kind], native, calls, reset)

    def _check(self, kind: str) -> None:
        if kind not in self._calls:
            raise QxError(
                f"the subject has no calls of kind {kind!r}, which it had in the evaluation; it has "
                f"{', '.join(self._calls)}"
            )

    def _subject(self, subject: Subject, kind: str) -> Subject:
        if self._reset is None:
            is_plain = kind == CALL and self.device is None
            return subject if is_plain else _with_call(subject, self._calls[kind])
        reset, call = self._reset, self._calls[kind]

        def call_anew(native: Native) -> Native:
            reset(native, kind)
            return call(native)

        return _with_call(subject, call_anew)


class _WithCall:
    """A subject with another ``call``."""

    def __init__(self, subject: Subject, call: Call) -> None:
        self._subject, self.call = subject, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)


def _with_call(subject: Subject, call: Call) -> Subject:
    return cast("Subject", _WithCall(subject, call))
