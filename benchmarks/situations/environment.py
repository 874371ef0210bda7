"""Limits of the system, variables of the environment, clocks."""

from __future__ import annotations

from base import LATENT, PREDICT, PROGRAM, Situation

SITUATIONS = [
    Situation(
        "no /dev/shm",
        f"mount -t tmpfs -o ro,size=4k none /dev/shm && {PREDICT} --workers 2 --json",
        "0 json",
        needs=("root", "mounts"),
    ),
    Situation(
        "no /proc",
        f"mount -t tmpfs -o ro none /proc && {PREDICT} --workers 2 --json",
        "0 json",
        needs=("root", "mounts"),
    ),
    Situation(
        "nothing in the environment (cron)",
        f'env -i PYTHONPATH="$PYTHONPATH" {PROGRAM} predict one.toml --json --figure a.png --save a.nc',
        "0 json",
    ),
    Situation("one core of several", f"taskset -c 0 {PROGRAM} predict one.toml --json", "0 json"),
    Situation("nonsense in OMP_NUM_THREADS", f"OMP_NUM_THREADS=many OPENBLAS_NUM_THREADS=0 {PREDICT} --json", "0 json"),
    Situation(
        "nonsense in LOKY_MAX_CPU_COUNT",
        f"LOKY_MAX_CPU_COUNT=none {PREDICT}",
        "2 silent",
    ),
    Situation("nonsense in SLURM_CPUS_PER_TASK", f"SLURM_CPUS_PER_TASK='8(x2)' {PREDICT} --json", "0 json"),
    Situation("more threads than cores", f"OMP_NUM_THREADS=64 {PREDICT} --json", "0 json"),
    Situation("numba switched off", f"NUMBA_DISABLE_JIT=1 {PREDICT} --samples 200 --json", "0 json", lines=2),
    Situation("an unknown backend of Matplotlib", f"MPLBACKEND=nonsense {PREDICT} --json --figure a.png", "1 json"),
    Situation(
        "a matplotlibrc with errors",
        f"echo 'font.size: large; nonsense' > matplotlibrc; {PREDICT} --json --figure a.png",
        "0 json",
        lines=4,
    ),
    Situation("all warnings are errors", f"PYTHONWARNINGS=error {PREDICT} --json --figure a.png --save a.nc", "0 json"),
    Situation(
        "asserts and docstrings taken away",
        f"export PYTHONOPTIMIZE=2; {PREDICT} --json --figure a.png --save a.zarr && "
        "featurephase explain one.toml --quiet > o",
        "0 json",
    ),
    Situation("Python's mode for developers", f"PYTHONDEVMODE=1 {PREDICT} --json --save a.nc", "0 json"),
    Situation(
        "another order of sets: the same bytes",
        f"for seed in 1 2; do PYTHONHASHSEED=$seed {PREDICT} --json > $seed; done; cmp 1 2",
        "0",
    ),
    Situation(
        "another locale, time zone and folder: the same bytes",
        f"{PREDICT} --json > a; mkdir d; cd d; export LC_ALL=C TZ=Pacific/Apia; "
        "featurephase predict ../one.toml --json > b; cmp ../a b",
        "0",
    ),
    Situation("1 GB of address space", f"ulimit -v 1048576; {PREDICT} --json", "0 json"),
    Situation("1 GB of address space, two processes", f"ulimit -v 1048576; {PREDICT} --workers 2 --json", "0 json"),
    Situation(
        "1 GB of address space, more samples than fit", f"ulimit -v 1048576; {PREDICT} --samples 30000000", "2 silent"
    ),
    Situation(
        "1 GB of address space, a larger network than fits",
        "ulimit -v 1048576; featurephase simulate one.toml --dimension 20000 --delta 5 --method dense",
        "2 silent",
    ),
    Situation("few open files", f"ulimit -n 32; {PREDICT} --workers 2 --json --save a.zarr", "0 json", lines=2),
    Situation(
        "no further process or thread",
        f"open_python; as_nobody HOME=/proc OPENBLAS_NUM_THREADS=1 prlimit --nproc=1 {PROGRAM} predict one.toml "
        "--workers 2 --json",
        "0 json",
        lines=3,
        needs=("root", "mounts"),
    ),
    Situation("a small stack", f"ulimit -s 256; {PREDICT} --json", "0 json"),
    Situation(
        "little time on the processor", f"ulimit -t 1; {PREDICT} --samples 9000000 2>o; test $? -gt 128", "0 silent"
    ),
    Situation(
        "a clock that stands still",
        f"faketime -f '2030-01-01 00:00:00 x0' {PROGRAM} predict one.toml --json --save a.nc",
        "0 json",
        needs=("faketime",),
    ),
    Situation(
        "a clock in 1971",
        f"faketime '1971-01-01' {PROGRAM} predict one.toml --json --save a.zarr --figure a.pdf",
        "0 json",
        needs=("faketime",),
    ),
    Situation(
        "a clock in 2060",
        f"faketime '2060-01-01' {PROGRAM} predict one.toml --json --workers 2 --save a.nc",
        "0 json",
        needs=("faketime",),
    ),
    Situation(
        "a clock a thousand times too fast",
        f"faketime -f '+0 x1000' {PROGRAM} predict one.toml --json",
        "0 json",
        needs=("faketime",),
    ),
    Situation(
        "modules of the working folder with usual names",
        "for m in random numpy featurephase json typing queue; do echo 'raise SystemExit(7)' > $m.py; done; "
        "python -P -m featurephase predict one.toml --workers 2 --json",
        "0 json",
    ),
    Situation("under `timeout`", f"timeout -s INT 0.7 {PROGRAM} predict one.toml --samples 9000000", "124 silent"),
    Situation("lowest priority", f"nice -n 19 {PROGRAM} predict one.toml --json", "0 json"),
    Situation(
        "started by `xargs` with two at a time",
        f"echo 1 2 3 4 | xargs -n1 -P2 {PROGRAM} predict one.toml --seed >o",
        "0",
    ),
    Situation("Python without its site packages of the user", f"PYTHONNOUSERSITE=1 {LATENT} --json", "0 json"),
]
