"""``python -m featurephase``."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:  # as with the command itself, modules do not come from the working folder
        del sys.path[0]
    from featurephase.cli.app import main

    main()
