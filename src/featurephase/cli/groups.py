"""The command groups, imported for their effect: each registers its commands on the application.

The order here is the order of the commands in ``--help``. ``featurephase.cli.X`` may import nothing heavy at
module level.
"""

from featurephase.cli import init  # noqa: F401
