"""How far a command is: one line that is written over on a terminal, a line for each tenth of the way in a log."""

import sys
import time


class Progress:
    """Reports to stderr for `name`, such as a command, of `total` things, such as files; `done` are done before."""

    def __init__(self, name: str, total: int, things: str, done: int = 0) -> None:
        self.name, self.total, self.things = name, total, things
        self._done, self._first, self._start, self._shown = done, done, time.monotonic(), 0.0

    def reached(self, done: int, note: str = "") -> None:
        """So many are done now; `note` follows their number."""
        text = f"{self.name}: {done}/{self.total} {self.things}{note}"
        before, self._done, now = self._done, done, time.monotonic()
        if sys.stderr.isatty():
            if done == self.total or now - self._shown >= 0.2:
                self._shown = now
                end = "\n" if done == self.total else ""
                print(f"\r\x1b[K{text}{self._left(now)}", end=end, file=sys.stderr, flush=True)
        elif done * 10 // max(self.total, 1) != before * 10 // max(self.total, 1):
            print(text, file=sys.stderr, flush=True)

    def _left(self, now: float) -> str:
        """Time that is left at the rate so far; "" at the end."""
        if self._done in (self.total, self._first):
            return ""
        left = round((now - self._start) * (self.total - self._done) / (self._done - self._first))
        return f", {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
