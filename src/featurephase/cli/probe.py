"""The command ``probe``: train a network on a task under a probe."""

from __future__ import annotations

from typing import Annotated

import typer

from featurephase.cli.flags import Result, Shared, command, says

_FILE = typer.Argument(metavar="[FILE]", help="A TOML file with a table [probe]; - reads standard input.")
_TASKS = (
    "fashion-mnist, mnist, digits, breast-cancer, wine, modular-addition, polynomial, or FILE.npz with arrays x, y "
    "[digits]."
)
_EFFECTIVE = "Also effective parameters; the probe batch is then the training set [no]."


@command("replicates", "seed", "quick", "workers", "dask", "figure", "save")
def probe(
    file: Annotated[str | None, _FILE] = None,
    task: Annotated[str | None, says(_TASKS)] = None,
    network: Annotated[str | None, says("mlp or cnn [mlp].")] = None,
    parameterisation: Annotated[str | None, says("standard, ntk, mean-field or mup [standard].")] = None,
    depth: Annotated[int | None, says("Hidden layers [1].")] = None,
    width: Annotated[int | None, says("Units or channels of a hidden layer [256].")] = None,
    activation: Annotated[str | None, says("relu, gelu, silu, tanh, linear [relu].")] = None,
    bias: Annotated[bool | None, says("Give the layers biases [no].")] = None,
    init_scale: Annotated[float | None, says("Multiplies the initial weights [1].")] = None,
    output_scale: Annotated[float | None, says("Multiplies the network's output [1].")] = None,
    layer_rates: Annotated[str | None, says("Factors of the learning rates, first layer to last: 1,1,10.")] = None,
    loss: Annotated[str | None, says("squared or cross-entropy [squared].")] = None,
    optimiser: Annotated[str | None, says("sgd, adam or adamw [sgd].")] = None,
    weight_decay: Annotated[float | None, says("Weight decay of the optimiser [0].")] = None,
    steps: Annotated[int | None, says("Steps of gradient descent [1000].")] = None,
    step_size: Annotated[
        float | None, says("Learning rate [a quarter of the stability limit; adam, adamw: 0.001].")
    ] = None,
    batch_size: Annotated[int | None, says("Samples a step; 0: all [128].")] = None,
    train_samples: Annotated[int | None, says("Training samples; 0: all [0].")] = None,
    train_fraction: Annotated[float | None, says("Share of the samples to train on, e.g. 0.4.")] = None,
    test_samples: Annotated[int | None, says("Test samples; 0: all [0].")] = None,
    probe_samples: Annotated[int | None, says("Samples of the probe batch [32].")] = None,
    data_folder: Annotated[str | None, says("Folder of the IDX files of (Fashion-)MNIST.")] = None,
    modulus: Annotated[int | None, says("Of modular addition [23].")] = None,
    expression: Annotated[str | None, says("Polynomial target in g1..gk [g1*g2 + hermite(3, g1)].")] = None,
    dimension: Annotated[int | None, says("Inputs of a polynomial target [20].")] = None,
    schedule: Annotated[str | None, says("logarithmic[:K], linear:M or demand [logarithmic].")] = None,
    kernel: Annotated[str | None, says("auto, exact or sketch [auto].")] = None,
    hessian: Annotated[str | None, says("ends, all or none [ends].")] = None,
    effective_parameters: Annotated[bool | None, says(_EFFECTIVE)] = None,
    precision: Annotated[str | None, says("float32 or float64 [float32].")] = None,
    *,
    shared: Shared,
) -> Result:
    """Train a network under a probe: in which phase it learns, by which mechanism, what its Hessian does.

    Example: featurephase probe --task digits --network mlp --width 512 --parameterisation ntk --figure digits.png

    A FILE has a table [probe] with the same names, underscores for dashes; a flag overrides its key.
    Seeds train one after the other, large networks on all cores; --workers or --dask trains them side by side. Needs
    the extra `torch`. To watch your own training loop: `with featurephase.Probe(model, x, y,
    loss=loss) as probe: .. probe.step()`.
    """
    given = dict(locals()) | {"replicates": shared.replicates, "seed": shared.seed}
    flags = {name: value for name, value in given.items() if value is not None and name not in ("file", "shared")}
    from featurephase.cli.parsing import parse_vector
    from featurephase.foundation.tomlfile import read_text
    from featurephase.probe.experiment import Experiment, run_replicates

    if layer_rates is not None:
        flags["layer_rates"] = list(parse_vector("--layer-rates", layer_rates))
    experiment = Experiment.from_toml("" if file is None else read_text(file), flags)
    if shared.quick:
        experiment = experiment.quick()
        shared.notes.append("quick: a tenth of the training samples")
    elsewhere = shared.workers is not None or shared.dask is not None
    return run_replicates(experiment, progress=not shared.quiet, workers=shared.executor if elsewhere else 1)
