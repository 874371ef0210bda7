"""Standard streams, terminals, locales and encodings."""

from __future__ import annotations

from base import LATENT, PREDICT, PROGRAM, Situation

CLOSED = ("<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-")
COMMANDS = ("init", "predict one.toml", "related catapult --steps 3", "latent-phase --c-gamma=-0.5")


def _closed(command: str) -> Situation:
    """A command with its streams closed in every combination."""
    tries = "\n".join(
        f"featurephase {command} --json {closed} {'' if '>&-' in closed.split() else '>o'}; "
        f"test $? = {1 if '>&-' in closed.split() else 0} || {{ echo 'with {closed}' >&2; exit 9; }}"
        for closed in CLOSED
    )
    return Situation(f"`{command.split()[0]}` with streams closed in every combination", tries, "0 silent", lines=2)


SITUATIONS = [
    *map(_closed, COMMANDS),
    Situation("standard input closed, the experiment from it", "featurephase predict - <&-", "2 silent"),
    Situation(
        "a pipe that closes early",
        f"{PREDICT} --json --save a.nc | head -c 10 > o; code=${{PIPESTATUS[0]}}; test -s a.nc && exit $code",
        "0",
    ),
    Situation("a pipe that closes before anything is written", f"{PREDICT} | true; exit ${{PIPESTATUS[0]}}", "0"),
    Situation("both streams are a pipe that closes", f"{PREDICT} 2>&1 | true; exit ${{PIPESTATUS[0]}}", "0"),
    Situation("help into a pipe that closes", "featurephase predict --help | true; exit ${PIPESTATUS[0]}", "0"),
    Situation(
        "standard output is full", f"{PREDICT} --save a.nc > /dev/full; code=$?; test -s a.nc && exit $code", "1 silent"
    ),
    Situation("standard error is full", f"{PREDICT} --json 2> /dev/full", "0 json"),
    Situation("standard error is full, and there is an error", "featurephase predict absent 2> /dev/full", "2 silent"),
    Situation(
        "standard input is a file that cannot be read", "featurephase predict - < one.toml <&- 0>o --json", "2 silent"
    ),
    Situation("standard output is the experiment, opened to append", f"{PREDICT} --json >> one.toml", "0 silent"),
    Situation(
        "a terminal of 20 columns",
        f"script -qec 'stty cols 20; {PROGRAM} predict one.toml' /dev/null > o; code=$?; "
        "grep -q overlap o && exit $code",
        "0",
        needs=("terminal",),
    ),
    Situation(
        "a terminal that can do nothing",
        f"TERM=dumb COLUMNS=1 NO_COLOR=1 script -qec '{PROGRAM} predict --help' /dev/null > o",
        "0",
        needs=("terminal",),
    ),
    Situation("no terminal at all", f"setsid --wait {PROGRAM} predict one.toml --json", "0 json"),
    Situation("after `nohup`", f"nohup {PROGRAM} predict one.toml --json", "0 json"),
    Situation("locale C", f"LC_ALL=C {PREDICT}", "0"),
    Situation(
        "locale C, without Python's UTF-8 mode",
        f"export LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0; {PREDICT} --figure é.png --save é.nc && test -s é.nc",
        "0",
    ),
    Situation("a locale that is not installed", f"LC_ALL=xx_YY.UTF-8 {PREDICT} 2>o", "0"),
    Situation("an encoding of ASCII", f"PYTHONIOENCODING=ascii {PREDICT} --json", "0 json"),
    Situation("an encoding of ASCII, and an error", "PYTHONIOENCODING=ascii featurephase predict é.toml", "2 silent"),
    Situation("an encoding of Windows", f"PYTHONIOENCODING=cp1252 {PREDICT}", "0"),
    Situation(
        "an experiment in Latin-1",
        "iconv -t LATIN1//TRANSLIT one.toml > l.toml; featurephase predict l.toml",
        "2 silent",
    ),
    Situation("output without a buffer", f"PYTHONUNBUFFERED=1 {LATENT} --json", "0 json"),
]
