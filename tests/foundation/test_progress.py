"""A bar where a person may be looking, and nothing at all elsewhere."""

import io
import sys

from featurephase.foundation.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(4, "steps", initial=1) as bar:
        bar.delay = 0
        bar.update(3)
        bar.refresh()
    assert "steps: 100%" in terminal.getvalue()


def test_nobody_looks(monkeypatch):
    """Not even tqdm is imported: it takes a semaphore of the system, which a process that is ended leaves behind."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    for quiet, stream in ((True, sys.stderr), (False, io.StringIO()), (False, None), (False, object())):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar(4, quiet=quiet) as bar:
            bar.update()
            bar.total = 5
