"""Settings of the whole package, kept per thread as scikit-learn keeps its own."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sktransfer.utils._workers import own_address, works_for

_MEMORY_SHARE = 0.125
_local = threading.local()


def _physical_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this platform
        return 8 * 2**30


_global: dict[str, Any] = {
    "memory_budget": int(_MEMORY_SHARE * _physical_memory()),
    "disk_budget": 20 * 2**30,
    "activation_dtype": "auto",
    "precision": "auto",
    "slim_pickles": False,
}
_changed: set = set()  # settings that this process has ever changed


def get_config() -> dict[str, Any]:
    """Return the current settings of this thread.

    Returns
    -------
    dict of str to object
        Values by the names of the parameters of :func:`set_config`.

    See Also
    --------
    set_config : Change settings; describes each of them.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.get_config()["activation_dtype"]
    'auto'
    """
    return dict(getattr(_local, "settings", _global))


def set_config(
    *,
    memory_budget: int | None = None,
    disk_budget: int | None = None,
    activation_dtype: str | None = None,
    precision: str | None = None,
    slim_pickles: bool | None = None,
) -> None:
    """Change settings for this thread.

    Threads that have changed no setting use those of the main thread. Workers of
    joblib's own backends (loky, multiprocessing and threading), as with ``n_jobs=2``,
    of Ray and of Dask's ``LocalCluster`` receive the settings with the estimators.

    Parameters
    ----------
    memory_budget : int, default=None
        Maximum number of bytes of activations that a process keeps in memory; 0 keeps
        none. Initially an eighth of the machine's memory. As for all parameters, None
        leaves the setting as it is.
    disk_budget : int, default=None
        Maximum number of bytes of the store in a `memory=` folder. Initially 20 GiB.
    activation_dtype : {"auto", "float16", "float32"}, default=None
        Type in which activations are kept. "auto", the initial setting, keeps vectors
        in float32 and larger activations in float16. Activations are rounded at the end
        of every stage, whether they are kept or not, so that keeping them changes no
        prediction. A fitted estimator uses the type that it was fitted with.
    precision : {"auto", "float32"}, default=None
        Precision in which stages are computed. "float32" computes the network as it is.
        "auto", the initial setting, folds BatchNorm into convolutions of frozen stages,
        and uses bfloat16 where the hardware computes faster in it: in frozen stages if
        the features differ by at most 5%, and to train transformers; see the user
        guide. A fitted estimator uses the precision of frozen stages that it was fitted
        with.
    slim_pickles : bool, default=None
        Whether pickles of fitted estimators leave out the frozen weights. These are
        then loaded again by the name of the backbone, and checked. Initially False; see
        the user guide.

    Raises
    ------
    ValueError
        If a value is not one of those above.

    See Also
    --------
    config_context : Change settings inside a `with` block.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.set_config(memory_budget=2**30)
    """
    for name, value in (("memory_budget", memory_budget), ("disk_budget", disk_budget)):
        if value is not None and (not isinstance(value, int) or value < 0):
            raise ValueError(f"`{name}` must be a number of bytes >= 0. Got {value!r}.")
    dtypes = ("auto", "float16", "float32")
    if activation_dtype not in (None, *dtypes):
        raise ValueError(
            f"`activation_dtype` must be one of {list(dtypes)}. Got "
            f"{activation_dtype!r}."
        )
    if precision not in (None, "auto", "float32"):
        raise ValueError(
            f"`precision` must be one of ['auto', 'float32']. Got {precision!r}."
        )
    if not isinstance(slim_pickles, bool | None):
        raise ValueError(f"`slim_pickles` must be a bool. Got {slim_pickles!r}.")
    given = {
        "memory_budget": memory_budget,
        "disk_budget": disk_budget,
        "activation_dtype": activation_dtype,
        "precision": precision,
        "slim_pickles": slim_pickles,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    _changed.update(changed)
    _own().update(changed)


@contextmanager
def config_context(**settings: Any) -> Iterator[None]:
    """Change settings inside a `with` block.

    Parameters
    ----------
    **settings : dict
        Parameters of :func:`set_config`.

    Raises
    ------
    ValueError
        If a value is not allowed.

    See Also
    --------
    set_config : Describes each setting.

    Examples
    --------
    >>> import sktransfer
    >>> with sktransfer.config_context(activation_dtype="float32"):
    ...     sktransfer.get_config()["activation_dtype"]
    'float32'
    """
    before = get_config()
    set_config(**settings)
    try:
        yield
    finally:
        set_config(**before)


def settings_to_send() -> dict[str, Any]:
    """Return the current settings for another process; see :func:`adopt_settings`.

    The dictionary is empty where no setting was ever changed, so that equal estimators
    have equal pickles, and equal hashes, in every process.
    """
    return {**own_address(), "settings": get_config()} if _changed else {}


def adopt_settings(sent: dict[str, Any]) -> None:
    """Adopt, in a worker process, the settings of the process that it works for.

    Settings in a pickle of another run are ignored.
    """
    if sent and works_for(sent):
        _changed.update(sent["settings"])
        _own().update(sent["settings"])
        _global.update(sent["settings"])


def _own():
    """Return the settings that this thread may change."""
    if threading.current_thread() is threading.main_thread():
        return _global
    if not hasattr(_local, "settings"):
        _local.settings = dict(_global)
    return _local.settings
