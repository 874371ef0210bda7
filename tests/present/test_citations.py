"""What is cited follows from the inputs, and every model has an entry for its paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.present.citations import bibtex, cited_by, entries
from featurephase.related_models.registry import MODELS, model_class

from ..cli.conftest import invoke


def test_the_entries_are_whole() -> None:
    text = bibtex(entries())
    assert text.count("@") == len(entries()) > 15
    for key, entry in entries().items():
        assert entry.count("{") == entry.count("}"), key
        assert re.search(r"^  title = \{.+", entry, re.MULTILINE), key
        assert re.search(r"^  author = \{.+", entry, re.MULTILINE), key
    assert f"version = {{{fp.__version__}}}" in text


@pytest.mark.parametrize("name", list(MODELS))
def test_every_paper_of_a_related_model_has_an_entry(name: str) -> None:
    citation = model_class(name).citation
    papers = len(re.findall(r"arXiv:", citation)) + ("Saad, Solla" in citation)
    keys = cited_by(fp.related(name).to_xarray(), "RelatedResult")
    assert keys[0] == "featurephase"
    assert len(keys) == 1 + papers >= 2


def test_rules() -> None:
    latent = fp.latent([0.5], [0.2], cross_moment=1.0, times=[0.0])
    assert fp.cite(latent).keys == ("featurephase", "xu2024three")
    probe = latent.to_xarray().assign_attrs(setting_task="fashion-mnist", setting_parameterisation="mup")
    assert cited_by(probe, "ProbeResult")[1:] == [
        "xu2024three",
        "jeffares2024telescoping",
        "yang2020feature",
        "xiao2017fashion",
    ]
    assert cited_by(latent.to_xarray(), "Prediction") == ["featurephase", "montanari2026phase"]


def test_the_command(tmp_path: Path) -> None:
    own = invoke("cite")
    assert own.code == 0
    assert re.findall(r"@\w+\{(\w+),", own.out) == ["featurephase", "montanari2026phase", "xu2024three"]
    path = fp.related("catapult", steps=2).save(tmp_path / "c.zarr")
    assert invoke("cite", path, "--json").document["keys"] == ["featurephase", "lewkowycz2020catapult"]
    assert invoke("cite", tmp_path / "absent.nc").code == 2
    with pytest.raises(InputError, match="no reference"):
        bibtex(["unheard"])
