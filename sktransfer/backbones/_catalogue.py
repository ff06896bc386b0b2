"""What backbones there are, and what one looks like, as DataFrames."""

import fnmatch

import pandas as pd

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._card import stated_license
from sktransfer.backbones._load import load_backbone
from sktransfer.backbones._registry import full_name, get_provider, list_providers
from sktransfer.backbones._stages import INPUT, OUTPUT
from sktransfer.backbones._states import n_values

__all__ = ["describe_backbone", "list_backbones"]

_COLUMNS = {
    "name": None,
    "provider": None,
    "parameters": None,
    "input_size": None,
    "weights": None,
    "license": None,
    "available": False,
}


def describe_backbone(
    spec="efficientnet_lite0", *, weights=None, blocks=False, **options
):
    """Describe a backbone stage by stage.

    Parameters
    ----------
    spec : str, torch.nn.Module, callable or Backbone, default="efficientnet_lite0"
        See :func:`load_backbone`.
    weights : str, os.PathLike or None, default=None
        The description does not depend on the weights, so none are loaded.
    blocks : bool, default=False
        Whether to list the blocks inside the stages as well.
    **options
        Passed on to :func:`load_backbone`.

    Returns
    -------
    pandas.DataFrame
        One row per stage (or block), in order, with

        - ``index``: what `freeze` would be to freeze up to and including it; missing
          for blocks, which are asked for by name;
        - ``name``;
        - ``parameters``: their number;
        - ``multiply_adds``: for one sample;
        - ``activation_shape``: for one sample, at the end of the stage;
        - ``activation_bytes``: for one sample in float32;
        - ``cumulative_share``: of the multiply-adds of the whole network, up to and
          including this stage.

    Examples
    --------
    >>> from sktransfer.backbones import describe_backbone
    >>> describe_backbone("efficientnet_lite0")[["name", "parameters"]].head(2)
           name  parameters
    0      stem         928
    1  blocks.0         896
    """
    if isinstance(spec, Backbone) and weights is None:
        weights = "default"
    backbone = load_backbone(spec, weights=weights, **options)
    names = list(backbone.boundaries) if blocks else backbone.stage_names
    total = backbone.multiply_adds(INPUT, OUTPUT)
    rows, start, done = [], INPUT, 0
    for name in names:
        n = backbone.multiply_adds(start, name)
        done += n
        shape = backbone.activation_shape(name)
        row = {
            "index": _index(backbone, name),
            "name": name,
            "parameters": _n_parameters(backbone.section(start, name)),
            "multiply_adds": n,
            "activation_shape": shape,
            "activation_bytes": 4 * n_values(shape),
            "cumulative_share": done / total if total else 1.0,
        }
        rows.append(row)
        start = name
    return pd.DataFrame(rows).astype({"index": "Int64"})


def _index(backbone, name):
    names = backbone.stage_names
    return names.index(name) + 1 if name in names else pd.NA


def _n_parameters(section):
    return sum(p.numel() for p in section.parameters())


def list_backbones(filter=None, provider=None, license=None):
    """List the backbones that can be named.

    Parameters
    ----------
    filter : str, default=None
        Shell-style pattern for the name, as in ``"*resnet*"``.
    provider : str, default=None
        One of :func:`list_providers`. By default all.
    license : str or list of str, default=None
        Shell-style patterns for the license of the weights, in any case, as in
        ``["apache-*", "mit"]``. ``"not stated"`` are those that nobody states one for.

    Returns
    -------
    pandas.DataFrame
        One row per set of weights (or an architecture without any), with ``name`` (as
        :func:`load_backbone` takes it), ``provider``, ``parameters``, ``input_size``
        in pixels, ``weights`` (what they are called; missing if there are none),
        ``license`` of the weights as the provider states it, or ``"not stated"``, and
        ``available``: whether they are on this machine.

    Raises
    ------
    ValueError
        If there is no such provider.

    See Also
    --------
    model_card : What there is to know of one.

    Examples
    --------
    >>> from sktransfer.backbones import list_backbones
    >>> list_backbones(provider="shipped")["name"].tolist()
    ['efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2']
    >>> list_backbones("resnet18", license="bsd-*")["weights"].tolist()
    []
    """
    providers = list_providers()
    if provider not in (None, *providers):
        raise ValueError(
            f"`provider` must be one of {providers} or None. Got {provider!r}."
        )
    wanted = providers if provider is None else [provider]
    rows = [row for p in wanted for row in _rows(p, filter or "*")]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    if license is not None:
        patterns = [license] if isinstance(license, str) else list(license)
        table = table[[_is_license(found, patterns) for found in table["license"]]]
        table = table.reset_index(drop=True)
    return table.astype({"parameters": "Int64", "input_size": "Int64"})


def _rows(provider, pattern):
    """Yield a row per set of weights of a provider."""
    source = get_provider(provider)
    for bare in source.names() if source is not None else ():
        name = full_name(provider, bare)
        if not (fnmatch.fnmatch(bare, pattern) or fnmatch.fnmatch(name, pattern)):
            continue
        for entries in source.describe(bare):
            row = _COLUMNS | entries | {"name": name, "provider": provider}
            yield row | {"license": stated_license(row["license"])}


def _is_license(found, patterns):
    return any(fnmatch.fnmatch(found.lower(), p.lower()) for p in patterns)
