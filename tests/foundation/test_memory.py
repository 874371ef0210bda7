"""How much memory there is, and what is said where it is not enough."""

import subprocess
import sys

import pytest

from featurephase.foundation.errors import MemoryLimitError
from featurephase.foundation.memory import available_memory, format_bytes, require_memory

resource = pytest.importorskip("resource")


def test_more_than_there_is_is_refused_with_both_figures():
    with pytest.raises(MemoryLimitError, match=r"a matrix needs 1e\+03 TiB of memory and .* are available"):
        require_memory(1e3 * 2**40, "a matrix")
    require_memory(1.0, "a byte")


def test_a_limit_on_the_address_space_counts():
    """As ``ulimit -v`` sets it; in a process of its own, which cannot raise it again."""
    program = (
        "import resource\n"
        "from featurephase.foundation.memory import available_memory\n"
        "limit = 10**9\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "assert 0 < available_memory() < limit\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert available_memory() > 0


def test_bytes_for_people():
    assert [format_bytes(x) for x in (10, 2048, 3 * 2**20, 2**40)] == ["10 bytes", "2 KiB", "3 MiB", "1 TiB"]
