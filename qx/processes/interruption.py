"""Ctrl-C and SIGTERM in a run: the first lets it end in order, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from attrs import define

#: Signals that ask a run to end.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@define
class Interruption:
    """The wish of the user that a run ends early."""

    #: Signal that has asked for it; None: nothing has.
    signal: signal.Signals | None = None
    #: Ends what would take long and leaves the rest in order; it is called in a thread of its own. None while
    #: there is nothing that could be kept: then the first signal ends the run at once.
    end_in_order: Callable[[], None] | None = None

    @property
    def is_requested(self) -> bool:
        """Whether the run is to end early."""
        return self.signal is not None

    @property
    def name(self) -> str | None:
        """Name of the signal, such as ``SIGINT``."""
        return None if self.signal is None else self.signal.name

    @contextmanager
    def listening(self, say: Callable[[], None]) -> Iterator[None]:
        """Take the first signal as a request, and pass others on to the handlers that were there before.

        ``say`` tells the user what happens now. Outside of the main thread signals are the caller's affair.
        """
        former = {number: signal.getsignal(number) for number in SIGNALS}

        def handle(number: int, frame: FrameType | None) -> None:
            if self.is_requested or self.end_in_order is None:
                handler = former[signal.Signals(number)]
                if callable(handler):
                    handler(number, frame)
                return
            self.signal = signal.Signals(number)
            # In a thread, since what this one has locked in the midst of its work stays locked meanwhile.
            threading.Thread(target=self._request, args=(say,), daemon=True).start()

        try:
            for number in SIGNALS:
                # What nobody handles, as in a shell's background, stays so.
                if callable(former[number]):
                    signal.signal(number, handle)
        except ValueError:
            yield
            return
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _request(self, say: Callable[[], None]) -> None:
        say()
        if self.end_in_order is not None:
            self.end_in_order()
