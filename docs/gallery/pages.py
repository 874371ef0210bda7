"""The interactive pages of the gallery: made from the numbers in the documentation, as it is built."""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).parent.parent
#: Where the build finds them.
PAGES = DOCS / "_pages"


def main() -> None:
    """The page of the 210 designs of docs/sweeps, from its table."""
    import pandas
    import xarray

    from featurephase import __version__
    from featurephase.present.page import write_page
    from featurephase.present.report import page_of

    folder = DOCS / "sweeps"
    axes = ["student.activation", "loss.name", "student.init_norm"]
    table = pandas.read_csv(folder / "designs.csv")
    order = {axis: table[axis].unique() for axis in axes}
    data = xarray.Dataset.from_dataframe(table.set_index(axes)).reindex(order)
    data["done"] = xarray.where(data["status"] == "ok", 1, 2)
    data["message"] = data["status"]
    files = {name: (folder / f"{file}.toml").read_text("utf-8") for name, file in _FILES.items()}
    about = {"written_by": "featurephase", "contents": "sweep", "kind": "experiment", "status": "ok", "seed": 0}
    about |= {"title": "210 designs of one neuron on an even response", "version": __version__, "replicates": 4}
    about |= {"axes": json.dumps(axes)}
    for name, words in _MEANINGS.items():
        data[name].attrs["long_name"] = words
    PAGES.mkdir(exist_ok=True)
    write_page(PAGES / "designs.html", page_of(data.assign_attrs(about | files)))


_FILES = {"sweep": "designs", "experiment": "experiment"}
_MEANINGS = {
    "delta_nn": "n/d from which on a hard outlier stands left of the bulk",
    "delta_nn_negative": "n/d from which on that outlier is negative: feature learning",
    "delta_alg": "samples over dimension that the best first-order method needs",
}

if __name__ == "__main__":
    main()
