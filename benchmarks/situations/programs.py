"""The Python interface where programs call it: threads, loops, processes, notebooks, states that the user has set."""

from __future__ import annotations

from base import Situation

#: Two answers that must be the same wherever they are computed.
START = """
import featurephase as fp
def problem(seed=0, samples=2000):
    return fp.load("one.toml").replace(asymptotics={"seed": seed, "samples": samples})
def answer(seed=0, **options):
    run = fp.simulate(problem(seed), dimension=20, seeds=2)
    return fp.predict(problem(seed), **options).to_dict(), run.to_dict()
"""


def program(title: str, text: str, **options: object) -> Situation:
    return Situation(title, START + text, "0 silent", **{"lines": 0, "python": True} | options)  # type: ignore[arg-type]


def under(title: str, setting: str, **options: object) -> Situation:
    """The same answer before and after the user has changed something of the whole process."""
    return program(title, f"before = answer()\n{setting}\nassert answer() == before", **options)


def script(title: str, text: str, lines: int = 0, expected: str = "0") -> Situation:
    """A script of its own, because new processes import it."""
    return Situation(title, f"cat > run.py <<'END'\n{START}{text}\nEND\npython run.py", expected, lines=lines)


SITUATIONS = [
    program(
        "a thread",
        """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as pool:
    assert pool.submit(answer, workers=2).result() == answer()
""",
    ),
    program(
        "four threads at once",
        """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(answer, range(4))) == [answer(seed) for seed in range(4)]
""",
    ),
    program(
        "four threads with processes of their own",
        """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    both = [pool.submit(answer, seed, workers=2 + seed % 2) for seed in range(4)]
    assert [one.result() for one in both] == [answer(seed) for seed in range(4)]
""",
    ),
    program(
        "a daemon thread that the program does not wait for",
        """
import threading, time
task = lambda: fp.predict(problem(samples=400000), workers=2)
threading.Thread(target=task, daemon=True).start()
time.sleep(1.5)
""",
    ),
    program(
        "asyncio: inside a running loop",
        """
import asyncio
async def main():
    return answer(workers=2)
assert asyncio.run(main()) == answer()
""",
    ),
    program(
        "asyncio: several in threads, one given up",
        """
import asyncio
async def main():
    first = asyncio.create_task(asyncio.to_thread(answer, 1))
    with __import__("contextlib").suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(answer, 2), 0.05)
    return await first
assert asyncio.run(main()) == answer(1)
""",
    ),
    Situation(
        "a notebook: results are shown, an interruption is one error, and the kernel lives on",
        """
import nbformat, nbclient
cells = [
    "import featurephase as fp; problem = fp.load('one.toml'); p = fp.predict(problem, workers=2); p",
    "p.figure()",
    "import _thread, threading; threading.Timer(1.5, _thread.interrupt_main).start()\\n"
    "try:\\n    fp.predict(problem.replace(asymptotics={'samples': 4000000}))\\n"
    "except KeyboardInterrupt:\\n    print('interrupted')",
    "assert fp.predict(problem) == p",
]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
kinds = [[kind for one in cell.outputs for kind in one.get("data", {})] for cell in book.cells]
assert "text/html" in kinds[0] and "image/png" in kinds[1], kinds
assert any(one.get("text") == "interrupted\\n" for one in book.cells[2].outputs), book.cells[2].outputs
""",
        "0 silent",  # the kernel warns of itself
        python=True,
        needs=("notebook",),
    ),
    program(
        "standard streams that are None (pythonw)",
        "import sys\nsys.stdout = sys.stderr = None\nanswer(workers=2, quiet=False)",
    ),
    program("no arguments of the program", "import sys\nsys.argv = []\nanswer(workers=2)"),
    under("NumPy raises at every overflow", "import numpy; numpy.seterr(all='raise')"),
    under("warnings are errors", "import warnings; warnings.simplefilter('error')"),
    under(
        "random numbers of the user: the answer neither uses nor moves them",
        """
import random, numpy
random.seed(1), numpy.random.seed(1)
answer()
assert (random.random(), numpy.random.rand()) == (0.13436424411240122, 0.417022004702574)""",
    ),
    under(
        "another precision of decimal and mpmath",
        "import decimal, mpmath; decimal.getcontext().prec = 3; mpmath.mp.dps = 5",
    ),
    under("the way NumPy prints", "import numpy; numpy.set_printoptions(precision=2, threshold=3, legacy='1.13')"),
    under(
        "options of xarray and pandas",
        "import xarray; xarray.set_options(keep_attrs=False, arithmetic_join='exact'); answer()",
    ),
    under("a rapid change of threads", "import sys; sys.setswitchinterval(1e-6)"),
    under("a tracer, as of coverage or a debugger", "import sys; sys.settrace(lambda *_: None)"),
    under("a low limit of recursion", "import sys; sys.setrecursionlimit(250)"),
    under("no collection of garbage", "import gc; gc.disable(); gc.set_threshold(1)"),
    under(
        "signals that the user handles",
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); signal.alarm(100)",
    ),
    under("a limit of threads by threadpoolctl", "import threadpoolctl; threadpoolctl.threadpool_limits(1)"),
    under(
        "styles of Matplotlib",
        """
import matplotlib
red = matplotlib.cycler(color=["r"])
matplotlib.rcParams.update({"text.usetex": True, "axes.prop_cycle": red, "figure.max_open_warning": 1})
before_style = dict(matplotlib.rcParams)
for _ in range(3): fp.predict(problem()).figure()
assert dict(matplotlib.rcParams) == before_style""",
    ),
    under(
        "torch in another precision, without gradients",
        """
import torch
torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False); torch.set_num_threads(1)""",
        needs=("torch",),
    ),
    program(
        "every result by pickle, cloudpickle, deepcopy, joblib's way, and in another process",
        """
import copy, cloudpickle, pickle, subprocess, sys
everything = [
    fp.predict(problem(), density=True), fp.threshold(problem(), times=[3]), fp.explain(problem()),
    fp.simulate(problem(), dimension=20, seeds=2), fp.compare(problem(), dimension=20, seeds=2),
    fp.latent([0.5, -0.3], [0.2, 0.7], cross_moment=1.0, times=[0.0, 0.5], measure=True),
    fp.latent_phase(c_gamma=-0.5, kappa=100.0, points=3, replicates=2), fp.related(), fp.related("catapult", steps=5),
    fp.related("double-descent"), fp.load("one.toml"), fp.InputError("bad"),
]
for one in everything:
    others = [pickle.loads(pickle.dumps(one, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    others += [copy.copy(one), copy.deepcopy(one), cloudpickle.loads(cloudpickle.dumps(one))]
    for other in others:
        assert type(other) is type(one) and str(other) == str(one), one
        assert isinstance(one, Exception) or other == one, one
with open("all", "wb") as file:
    pickle.dump(everything[:-1], file)
check = "import pickle; r = pickle.load(open('all', 'rb')); print([type(x).__name__ for x in r])"
done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
assert done.stdout == str([type(x).__name__ for x in everything[:-1]]) + "\\n", done.stderr
""",
    ),
    program(
        "fifty runs and files: nothing grows",
        """
import os, threading
def state(): return len(os.listdir("/proc/self/fd")), threading.active_count()
def once():
    result = fp.latent([0.5, -0.3], [0.2, 0.7], cross_moment=1.0, times=[0.0, 0.5])
    result.save("a.nc"), result.save("a.zarr"), result.to_dict()
    fp.predict(problem(samples=100))
once(); before = state()
for _ in range(50): once()
assert state() == before, (before, state())
""",
    ),
    program(
        "a program that forks, before and after",
        """
import os
before = answer(workers=2)
for _ in range(2):
    if (child := os.fork()) == 0:
        os._exit(answer(workers=2) != before)
    assert os.waitpid(child, 0)[1] == 0
""",
        lines=2,  # semaphores of workers whose parent left by os._exit: the system's tracker says that it removes them
    ),
    *(
        script(
            f"new processes by `{method}` only",
            f"""
import multiprocessing
if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    assert answer(workers=2) == answer(workers=1)
    with multiprocessing.Pool(2) as pool:
        assert pool.map(answer, [0, 1]) == [answer(0), answer(1)]
""",
        )
        for method in ("spawn", "forkserver", "fork")
    ),
    script("a script without a guard for its main part", "assert answer(workers=2) == answer(workers=1)"),
    script(
        "inside a process of concurrent.futures, with workers of its own",
        """
from concurrent.futures import ProcessPoolExecutor
import functools
if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(functools.partial(answer, workers=2)).result() == answer()
""",
    ),
    script(
        "a script that leaves by an error",
        "answer(workers=2)\nraise SystemExit('enough')",
        expected="1 silent",
        lines=1,
    ),
    Situation(
        "a program from standard input",
        "echo 'import featurephase as fp; assert fp.predict(fp.load(\"one.toml\"), workers=2).ok' | python -",
        "0 silent",
    ),
    Situation(
        "isolated and optimised Python, another folder",
        "here=$PWD; cd /; python -OO -c \"import sys; sys.argv = ['x']; import featurephase as fp; "
        "fp.predict(fp.load('$here/one.toml'), workers=2).table()\"",
        "0 silent",
    ),
    program(
        "a path in every form",
        """
import os, pathlib, io
one = [fp.load(form) for form in ("one.toml", pathlib.Path("one.toml"), os.path.abspath("one.toml"))]
assert all(problem == one[0] for problem in one)""",
    ),
    program(
        "a child of the system meanwhile, that is waited for by the user",
        """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1); raise SystemExit(5)"])
answer(workers=2)
assert child.wait() == 5""",
    ),
    program(
        "a clock that jumps back and forth",
        """
import itertools, time
jumps, clock, wall = itertools.cycle([0, -1e4, 1e6]), time.perf_counter, time.time
before = answer()
time.perf_counter, time.time = lambda: clock() + next(jumps), lambda: wall() + next(jumps)
assert answer() == before
assert answer(workers=2, quiet=True) == before
""",
    ),
]
