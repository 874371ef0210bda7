"""``python -m featurephase``."""

from featurephase.cli.app import main

if __name__ == "__main__":
    main()
