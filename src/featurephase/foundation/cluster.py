"""Tasks on a Dask cluster, through the client of ``dask.distributed``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from featurephase._version import __version__
from featurephase.foundation.errors import FeaturephaseWarning, InputError, MissingDependencyError, show
from featurephase.foundation.threads import hold_blas
from featurephase.foundation.workers import NotSentError, WorkerError, packed, unpacked


def run_on_cluster(
    address: str,
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    finished: Callable[[int, Any], object],
    lost: Callable[[WorkerError], Any] | None,
) -> None:
    """Run all tasks, and call ``finished`` with number and result of each as it comes.

    A task whose worker dies is begun again on another one, by the scheduler and as often as it allows
    (``distributed.scheduler.allowed-failures``); then ``lost`` gives what stands in place of its result.

    Raises
    ------
    MissingDependencyError
        Without ``dask.distributed``.
    InputError
        If no scheduler answers at the address, or its workers have another version.
    WorkerError
        If the scheduler is lost, or a task and no ``lost`` is given.
    """
    try:
        from distributed import CancelledError, as_completed
    except ImportError:
        raise MissingDependencyError("--dask needs dask.distributed: pip install 'featurephase[dask]'") from None
    if not tasks:
        return
    client = _client(address)
    numbers = {client.submit(_on_worker, packed(function, task), pure=False): i for i, task in enumerate(tasks)}
    try:
        with client.as_current():
            for future in as_completed(list(numbers)):
                finished(numbers.pop(future), _result(future, address, lost))
    except CancelledError as error:
        raise WorkerError(f"the Dask scheduler at {address} was lost: {error}") from error
    except NotSentError as error:
        raise WorkerError(f"the Dask workers at {address} cannot read a task: {error}") from error
    finally:
        if numbers:
            client.cancel(list(numbers))


def _result(future: Any, address: str, lost: Callable[[WorkerError], Any] | None) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        problem = WorkerError(f"the Dask cluster at {address} lost a worker: {error}")
        if lost is None:
            raise problem from error
        return lost(problem)


@functools.lru_cache(maxsize=1)
def _client(address: str) -> Any:
    """The connection, kept for the next list of tasks."""
    from distributed import Client

    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"dask = {show(address)}: no scheduler answers there ({str(error) or type(error).__name__}); the address "
            "that `dask scheduler` prints is needed, such as tcp://127.0.0.1:8786"
        ) from error

    workers = client.get_versions(packages=["featurephase"])["workers"].values()
    versions = {str(worker["packages"].get("featurephase")) for worker in workers} - {__version__}
    if versions:
        client.close()
        raise InputError(
            f"dask = {show(address)}: its workers have featurephase {min(versions)}, here is {__version__}"
        )
    if not workers:
        warnings.warn(f"the Dask scheduler at {address} has no workers yet: waiting", FeaturephaseWarning, stacklevel=2)
    return client


def _on_worker(message: bytes) -> Any:
    """BLAS on one thread for good: a worker may run several tasks at once, and threads of BLAS change rounding."""
    function, task = unpacked(message)
    hold_blas()
    return function(*task)
