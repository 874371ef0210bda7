"""The command groups, imported for their effect: each registers its commands on the application.

The order here is the order of the commands in ``--help``. ``featurephase.cli.X`` may import nothing heavy at
module level.
"""

# ruff: noqa: I001
from featurephase.cli import init  # noqa: F401
from featurephase.cli import predict  # noqa: F401
from featurephase.cli import threshold  # noqa: F401
from featurephase.cli import explain  # noqa: F401
from featurephase.cli import simulate  # noqa: F401
from featurephase.cli import compare  # noqa: F401
from featurephase.cli import latent  # noqa: F401
from featurephase.cli import probe  # noqa: F401
