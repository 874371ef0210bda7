"""The flags of commands that train on the user's own features, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from featurephase.problem.data import UserData


DataFlag = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="Your features (.npy, .npz, .csv), a row a sample.")
]
LabelsFlag = Annotated[
    Path | None, typer.Option("--labels", metavar="FILE", help="Their labels; default: the link labels them.")
]
WhitenFlag = Annotated[bool, typer.Option("--whiten", help="Centre the features, turn their covariance into I.")]
HeaderFlag = Annotated[
    str,
    typer.Option("--header", metavar="yes|no", help="Whether a .csv file begins with names; default: by its look."),
]
HeldOutFlag = Annotated[float, typer.Option("--held-out", help="Share of the data kept for the test loss.")]


def user_data(data: Path | None, labels: Path | None, whiten: bool, header: str, held_out: float) -> UserData | None:
    """The features that the flags name; ``None`` without ``--data``.

    Raises
    ------
    InputError
        If a flag goes with ``--data`` alone, or the file cannot be used.
    """
    from featurephase.foundation.errors import InputError
    from featurephase.problem.data import load_data

    if data is None:
        if labels is not None or whiten:
            raise InputError("--labels and --whiten go with --data FILE")
        return None
    return load_data(data, labels=labels, whiten=whiten, held_out=held_out, header=cast(Any, header))
