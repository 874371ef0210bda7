"""What ``init`` returns: the templates there are."""

from __future__ import annotations

from featurephase.results.base import Result
from featurephase.results.labels import labelled, record


@record
class TemplateList(Result):
    """The templates there are, and the file that was written, if any.

    Attributes
    ----------
    templates
        Name -> title.
    written
        The file written, or ``None``.
    """

    templates: dict[str, str] = labelled(name="")
    written: str | None = labelled(attribute=True, default=None)
