"""Ctrl-C that waits for a moment at which everything fits together."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """A block in which the first Ctrl-C waits for the next :meth:`check`; a second one is a KeyboardInterrupt at once.

    Only in the main thread, where Python's signals arrive, and only when nobody else has taken charge of Ctrl-C.

    >>> with Interrupts() as interrupts:
    ...     interrupts.check()
    """

    def __enter__(self) -> Interrupts:
        self.asked = False
        main = threading.current_thread() is threading.main_thread()
        self.ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *signal_and_frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt when Ctrl-C was pressed."""
        if self.asked:
            raise KeyboardInterrupt

    def __exit__(self, error: type[BaseException] | None, *rest: Any) -> None:
        if self.ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if error is None:
            self.check()
