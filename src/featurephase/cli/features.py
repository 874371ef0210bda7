"""The flags of commands that train on the user's own features, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from featurephase.cli.flags import says

if TYPE_CHECKING:
    from featurephase.problem.data import UserData


DataFlag = Annotated[Path | None, says("Your features (.npy, .npz, .csv), a row a sample.", "--data", metavar="FILE")]
LabelsFlag = Annotated[Path | None, says("Their labels; default: the link labels them.", "--labels", metavar="FILE")]
WhitenFlag = Annotated[bool, says("Centre the features, turn their covariance into I.", "--whiten")]
HeaderFlag = Annotated[
    str, says("Whether a .csv file begins with names; default: by its look.", "--header", metavar="yes|no")
]
HeldOutFlag = Annotated[float, says("Share of the data kept for the test loss.", "--held-out")]


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
