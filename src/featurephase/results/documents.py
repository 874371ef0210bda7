"""What ``report`` and ``cite`` return: that a page was written, and what is to be cited."""

from __future__ import annotations

from featurephase.results.base import Result
from featurephase.results.labels import labelled, record


@record
class WrittenPage(Result):
    """A page that was written.

    Attributes
    ----------
    page
        Its file.
    source
        The result that it shows.
    bytes
        Its size.
    """

    page: str = labelled(attribute=True)
    source: str = labelled(attribute=True)
    bytes: int = labelled(about="size of the page", unit="byte")


@record
class Citations(Result):
    """What to cite.

    Attributes
    ----------
    keys
        Keys of the entries, the software first.
    bibtex
        The entries.
    """

    keys: tuple[str, ...] = labelled("key", name="key", about="keys of the entries")
    bibtex: str = labelled(attribute=True)
