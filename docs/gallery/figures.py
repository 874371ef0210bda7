"""Draw the figures of the gallery: run the code of its page, and put what it calls ``figure`` into the image below."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def snippets(page: str) -> list[tuple[str, str]]:
    """The code of the page, each piece with the name of the image that follows before the next one, or none."""
    pieces = re.split(r"^```python\n", page, flags=re.MULTILINE)[1:]
    out = []
    for piece in pieces:
        code, _, rest = piece.partition("\n```\n")
        image = re.search(r"^!\[[^]]*\]\((\w+\.png)\)", rest, re.MULTILINE)
        out.append((code, image[1] if image else ""))
    return out


def main() -> None:
    """Run all pieces in order, as the tests of the documentation do."""
    from featurephase.cli.templates import read_template, template_names

    wanted = set(sys.argv[1:])
    namespace: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in template_names():
            Path(f"{name}.toml").write_text(read_template(name), encoding="utf-8")
        for code, image in snippets((HERE / "index.md").read_text(encoding="utf-8")):
            if wanted and image and image not in wanted:
                continue
            exec(compile(code, "gallery", "exec"), namespace)
            if image:
                namespace["figure"].savefig(HERE / image, dpi=90)  # small: these files are in the repository
        os.chdir(HERE)


if __name__ == "__main__":
    main()
