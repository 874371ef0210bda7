"""``python -m featurephase``, and the command ``featurephase``."""

import signal
import sys


def main() -> None:
    """Load the command line and run it; Ctrl-C meanwhile ends the process without the traceback of an import."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # and not ignored, as in the background of a shell
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from featurephase.cli.app import main as run

    signal.signal(signal.SIGINT, handler)
    run()


if __name__ == "__main__":
    if not sys.flags.safe_path:  # as with the command itself, modules do not come from the working folder
        del sys.path[0]
    main()
