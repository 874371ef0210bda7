"""Names, folders, permissions, disks, and files that change."""

from __future__ import annotations

from base import LATENT, PREDICT, PROGRAM, Situation

NC = "python -c 'import xarray; xarray.load_dataset(\"a.nc\")'"
ZARR = 'python -c \'import xarray; xarray.load_dataset("a.zarr", engine="zarr")\''

SITUATIONS = [
    Situation(
        "two runs in one folder save to one .nc",
        f"{LATENT} --save a.nc >o & {LATENT} --save a.nc >p; code=$?; wait $! && {NC} && exit $code",
        "0",
    ),
    Situation(
        "two runs in one folder save to one .zarr",
        f"{LATENT} --save a.zarr >o & {LATENT} --save a.zarr >p; code=$?; wait $!; code=$((code + $?)); "
        f"{ZARR} || code=9; exit $code",
        "0|1",
    ),
    Situation(
        "two runs in one folder draw one figure",
        f"{LATENT} --figure a.svg >o & {LATENT} --figure a.svg >p; code=$?; wait $! && "
        "grep -q '</svg>' a.svg && exit $code",
        "0",
    ),
    Situation(
        "two `init` of one name: one of them is refused",
        "featurephase init parity -o a.toml & featurephase init parity -o a.toml; code=$?; wait $!; "
        "exit $((code + $?))",
        "2",
    ),
    Situation(
        "unicode and spaces in every name",
        "mkdir 'é ü 实验 ☃'; cd 'é ü 实验 ☃'; cp ../one.toml 'α β.toml'; featurephase predict 'α β.toml' --json "
        "--save 'd a.nc' --figure 'f ☃.svg' && test -s 'd a.nc' -a -s 'f ☃.svg'",
        "0 json",
    ),
    Situation(
        "a line break in a name",
        "cp one.toml $'a\\nb.toml'; featurephase predict $'a\\nb.toml' --json --save $'c\\nd.nc'",
        "0 json",
    ),
    Situation(
        "a name that is not UTF-8",
        "cp one.toml $'\\xff.toml'; featurephase predict $'\\xff.toml' --json --save $'\\xfe.nc' --figure $'\\xfe.png'",
        "0 json",
    ),
    Situation("a missing name that is not UTF-8", "featurephase predict $'\\xff.toml'", "2 silent"),
    Situation(
        "a name that begins with a dash", "cp one.toml ./-x.toml; featurephase predict --json -- -x.toml", "0 json"
    ),
    Situation(
        "a path of 300 characters",
        "d=$(printf 'x%.0s' {1..60}); p=$d/$d/$d/$d/$d; mkdir -p $p; cp one.toml $p; featurephase predict $p/one.toml "
        "--json --save $p/a.nc --figure $p/a.png && test -s $p/a.nc",
        "0 json",
    ),
    Situation(
        "a path of 5000 characters, to read", "featurephase predict $(printf 'x/%.0s' {1..2500})a.toml", "2 silent"
    ),
    Situation("a path of 5000 characters, to write", f"{LATENT} --save $(printf 'x/%.0s' {{1..2500}})a.nc", "2 silent"),
    Situation("a name of 300 characters, to write", f"{LATENT} --save $(printf 'x%.0s' {{1..300}}).nc", "2 silent"),
    Situation(
        "a name of 250 characters, to write", f"{LATENT} --json --save $(printf 'x%.0s' {{1..250}}).nc", "0 json"
    ),
    Situation("a folder as experiment", "featurephase predict .", "2 silent"),
    Situation("a file without end as experiment", "featurephase predict /dev/zero", "2 silent"),
    Situation("a pipe without end as experiment", "yes | featurephase predict -", "2 silent"),
    Situation("a circle of links as experiment", "ln -s b a; ln -s a b; featurephase predict a", "2 silent"),
    Situation("an empty experiment", "featurephase predict - < /dev/null", "2 silent"),
    Situation(
        "a byte order mark and line ends of Windows",
        "(printf '\\xef\\xbb\\xbf'; sed 's/$/\\r/' one.toml) > w.toml; featurephase predict w.toml --json",
        "0 json",
    ),
    Situation("an experiment in UTF-16", "iconv -t UTF-16 one.toml > w.toml; featurephase predict w.toml", "2 silent"),
    Situation(
        "an experiment that changes while it is read",
        "(for i in {1..400}; do head -c $((RANDOM % 300)) one.toml > w.toml; cat one.toml > w.toml; done) & "
        "for i in 1 2 3 4; do featurephase explain w.toml --delta -1; test $? = 2 || exit 9; done; wait; exit 0",
        "0 silent",
        lines=4,
    ),
    Situation(
        "data that shrink while they are read",
        'python -c \'import numpy; x = numpy.random.randn(4000, 21); numpy.savetxt("x.csv", x, delimiter=",")\'; '
        "(for i in {1..50}; do head -c 200000 x.csv > y.csv; cat x.csv > y.csv; done) & sleep 0.5; "
        "featurephase compare one.toml --data y.csv --json; code=$?; wait; exit $code",
        "0|2|3",
        lines=3,
    ),
    Situation("the experiment is removed meanwhile", f"{PREDICT} --json & sleep 1; rm one.toml; wait $!", "0|2"),
    Situation(
        "the working folder is removed meanwhile",
        "mkdir d; cp one.toml d; cd d; featurephase predict one.toml --samples 200000 --json & sleep 2; "
        "rm -r ../d; wait $!",
        "0 json",
    ),
    Situation(
        "the folder of --save is removed meanwhile",
        f"mkdir d; {PREDICT} --samples 400000 --json --save d/a.nc & sleep 2; rm -r d; wait $!",
        "1|2 json",  # 2 where it goes before anything is computed
    ),
    Situation("the working folder is gone at the start", f"mkdir d; cd d; rmdir ../d; {LATENT} --json", "0 json"),
    Situation(
        "files have the permissions that umask says",
        f"umask 027; {LATENT} --json --save a.nc --figure a.png && "
        "test $(stat -c %a a.nc a.png | tr -d '\\n') = 640640",
        "0 json",
    ),
    Situation(
        "--save through a link changes its target",
        f"mkdir d; echo > d/a.nc; ln -s d/a.nc l.nc; {LATENT} --json --save l.nc && "
        "test -L l.nc -a $(stat -c %s d/a.nc) -gt 999",
        "0 json",
    ),
    Situation("--save and --figure name one file", f"{LATENT} --save a.nc --figure a.nc", "2 silent"),
    Situation(
        "--save over the file that was read, as told",
        "cp one.toml one.nc; featurephase predict one.nc --json --save one.nc && "
        "python -c 'import xarray; xarray.load_dataset(\"one.nc\")'",
        "0 json",
    ),
    Situation(
        "a folder of somebody else",
        f"open_python; as_nobody HOME=/ {PROGRAM} init parity",
        "2 silent",
        needs=("root", "mounts"),
    ),
    Situation(
        "a file system that is read only",
        f"mount -t tmpfs none /mnt && mount -o remount,ro /mnt && {LATENT} --save /mnt/a.nc",
        "2 silent",
        needs=("root", "mounts"),
    ),
    Situation(
        "a disk that is full, .nc",
        f"mount -t tmpfs -o size=16k none /mnt && head -c 12000 /dev/zero > /mnt/x; {LATENT} --json --save /mnt/a.nc; "
        'code=$?; test "$(ls -A /mnt)" = x && exit $code',
        "1 json",
        needs=("root", "mounts"),
    ),
    Situation(
        "a disk that is full, .zarr",
        f"mount -t tmpfs -o size=16k none /mnt && head -c 12000 /dev/zero > /mnt/x; "
        f'{LATENT} --json --save /mnt/a.zarr; code=$?; test "$(ls -A /mnt)" = x && exit $code',
        "1 json",
        needs=("root", "mounts"),
    ),
    Situation(
        "a home that is read only",
        f"open_python; as_nobody HOME=/proc {PROGRAM} predict one.toml --json",
        "0 json",
        lines=2,
        needs=("root", "mounts"),
    ),
    Situation(
        "an installation and a home that are read only",
        "cp -r $(python -c 'import featurephase; print(featurephase.__path__[0])') . && "
        "find featurephase -name __pycache__ -exec rm -r {} + ; chmod -R a-w featurephase; open_python; "
        f"as_nobody HOME=/proc PYTHONPATH=$PWD {PROGRAM} predict one.toml --json",
        "0 json",
        lines=2,
        needs=("root", "mounts"),
    ),
    Situation(
        "a temporary folder that does not exist", f"TMPDIR=/nowhere {PREDICT} --workers 2 --json --save a.nc", "0 json"
    ),
    Situation(
        "nowhere to write but standard output",
        f"mount -o bind,ro . . 2>/dev/null; mount -t tmpfs -o ro none /tmp/; {PROGRAM} latent --u 1 --w 1 "
        "--cross-moment 1 --time 1 --json",
        "0 json",
        lines=2,
        needs=("root", "mounts"),
    ),
]
