"""How many parameters an architecture has, without building it where that is known."""

import csv
from functools import cache
from importlib.resources import files

import torch

__all__ = ["count_parameters", "n_parameters"]


def n_parameters(name):
    """Return the number of parameters of a timm architecture.

    Parameters
    ----------
    name : str
        ``"timm/"`` and the architecture.

    Returns
    -------
    int
        From the table in this folder; counted if the architecture is newer than it.
    """
    known = _table().get(name)
    return count_parameters(name) if known is None else known


@cache
def count_parameters(name):
    """Count the parameters of a timm architecture by building it without memory."""
    import timm

    with torch.device("meta"):
        module = timm.create_model(name.removeprefix("timm/"))
    return sum(p.numel() for p in module.parameters())


@cache
def _table():
    file = files("sktransfer.backbones") / "_parameters.csv"
    with file.open(encoding="utf-8") as lines:
        return {row["name"]: int(row["parameters"]) for row in csv.DictReader(lines)}
