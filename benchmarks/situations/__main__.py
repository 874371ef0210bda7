"""Situations that users meet: streams, files, processes, limits, interruptions. Each is tried as a program.

    $ python benchmarks/situations                    all of them (20 minutes); a table in Markdown on standard output
    $ python benchmarks/situations locale pickle      those whose title has one of the words

A situation is a few lines of Bash or Python, run in a new folder with a small experiment in ``one.toml``. What is
expected stands beside it. In all of them no traceback may be shown, no scratch file and no process may stay behind, and
standard error has at most so many lines. Needs Linux; what needs root, ``faketime``, PyTorch or a notebook kernel is
left out, and said, where that is not there. Exit code 1 if something was not as expected.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator

import environment
import files
import programs
import signals
import streams


def situations() -> Iterator[tuple[str, str, list[str], Callable[[], tuple[str, str]]]]:
    """Title, what is expected, what is missing, and what tries it."""
    for room in (files, streams, environment, programs):
        for one in room.SITUATIONS:
            yield one.title, f"exit {one.expected.replace('|', ' or ')}", one.missing(), one.attempt
    for title, expected, function, arguments in signals.SITUATIONS:
        yield title, expected, [], lambda f=function, a=arguments: f(*a)  # type: ignore[misc]


def main(words: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell, and so by programs
    tried = failed = 0
    print("| | situation | expected | what happened | |\n|---|---|---|---|---|")
    for number, (title, expected, missing, attempt) in enumerate(situations(), 1):
        if words and not any(re.search(word, title) for word in words):
            continue
        happened, fault = (f"not tried: {', '.join(missing)} is not here", "") if missing else attempt()
        tried, failed = tried + (not missing), failed + bool(fault)
        cells = (str(number), title, expected, happened, f"**{fault}**" if fault else "" if missing else "as expected")
        print("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |", flush=True)
    print(f"\n{tried} situations tried, {failed} not as expected.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
