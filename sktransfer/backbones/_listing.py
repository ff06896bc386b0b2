"""The table of the backbones that providers know."""

import fnmatch
from collections.abc import Iterator

import pandas as pd

from sktransfer.backbones._registry import (
    RULE,
    full_name,
    get_provider,
    list_providers,
    stated_license,
)
from sktransfer.utils import unknown_name

_COLUMNS = {
    "name": None,
    "provider": None,
    "parameters": None,
    "input_size": None,
    "weights": None,
    "license": None,
    "available": False,
}


def list_backbones(
    filter: str | None = None,
    provider: str | None = None,
    license: str | list[str] | None = None,
) -> pd.DataFrame:
    """List the backbones that can be loaded by name.

    Parameters
    ----------
    filter : str, default=None
        Shell-style pattern of the name, such as ``"*resnet*"``. By default all.
    provider : str, default=None
        One of :func:`list_providers`. By default all.
    license : str or list of str, default=None
        Shell-style patterns of the license of the weights, in any case, such as
        ``["apache-*", "mit"]`` or ``"not stated"``. By default all.

    Returns
    -------
    pandas.DataFrame
        One row per set of weights, or per architecture without any, with the columns
        ``name`` (for :func:`load_backbone`), ``provider``, ``parameters`` (their
        number), ``input_size`` in pixels, ``weights`` (missing if there are none),
        ``license`` of the weights as the provider states it or ``"not stated"``, and
        ``available``, whether they are on this machine.

    Raises
    ------
    ValueError
        If there is no such provider.

    See Also
    --------
    model_card : Describes one backbone.
    describe_backbone : Lists the stages of one backbone.

    Examples
    --------
    >>> from sktransfer.backbones import list_backbones
    >>> list_backbones("*lite*", provider="shipped")["name"].tolist()
    ['efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2']
    >>> list_backbones("resnet18", license="bsd-*")["weights"].tolist()
    []
    """
    providers = list_providers()
    if provider not in (None, *providers):
        raise ValueError(unknown_name(RULE, provider, providers))
    wanted = providers if provider is None else [provider]
    rows = [row for p in wanted for row in _rows(p, filter or "*")]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    if license is not None:
        patterns = [license] if isinstance(license, str) else list(license)
        found = [
            any(fnmatch.fnmatch(stated.lower(), p.lower()) for p in patterns)
            for stated in table["license"]
        ]
        table = table[found].reset_index(drop=True)
    return table.astype({"parameters": "Int64", "input_size": "Int64"})


def _rows(provider: str, pattern: str) -> Iterator[dict]:
    """Yield the rows of a table about the backbones of a provider."""
    source = get_provider(provider)
    for bare in source.names() if source is not None else ():
        name = full_name(provider, bare)
        if not (fnmatch.fnmatch(bare, pattern) or fnmatch.fnmatch(name, pattern)):
            continue
        for entries in source.describe(bare):
            row = _COLUMNS | entries | {"name": name, "provider": provider}
            yield row | {"license": stated_license(row["license"])}
