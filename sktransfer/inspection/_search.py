"""Results of a search over the depth, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor

from sktransfer._classifier import FineTunedClassifier
from sktransfer._regressor import FineTunedRegressor
from sktransfer.backbones import Backbone, load_backbone
from sktransfer.fitting import resolve_freeze
from sktransfer.inspection._unwrap import fitted_reader
from sktransfer.utils import check_is_fitted

_DEPTHS = ("freeze", "stage")
_MOST_LINES = 7
_AUTO = "auto"


class SearchTable(NamedTuple):
    """Results of a search over the depth.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per candidate that is drawn.
    stages : list of str
        Names of the depths, from the shallowest to the deepest.
    score_name, depth_name : str
    best : int or None
        Position of the chosen candidate in the table.
    """

    table: pd.DataFrame
    stages: list
    score_name: str
    depth_name: str
    best: int | None


def read_search(
    search: Any, depth: str | None, lines: Sequence[str] | None, metric: str
) -> SearchTable:
    """Return the results of a fitted search; see `FreezeDepthDisplay`."""
    check_is_fitted(search, "cv_results_")
    results = pd.DataFrame(search.cv_results_)
    _check_metric(results, metric)
    params = results["params"].tolist()
    depth = _find_depth(params, depth)
    names, stages = _name_depths(search, params, depth)
    lines = _choose_lines(params, depth, lines)
    table = pd.DataFrame(
        {
            "depth": names,
            "label": [_label(candidate, lines) for candidate in params],
            "score": results[f"mean_test_{metric}"],
            "score_std": results[f"std_test_{metric}"],
            "fit_time": results["mean_fit_time"],
            "fit_time_std": results["std_fit_time"],
        }
    )
    table = _best_of_each(table)
    best = getattr(search, "best_index_", None)
    return SearchTable(
        table.reset_index(drop=True),
        stages,
        _name_score(search, metric),
        "Frozen up to" if depth.endswith("freeze") else "Features after",
        [*table.index].index(best) if best in table.index else None,
    )


def _check_metric(results, metric):
    name = f"mean_test_{metric}"
    if name not in results:
        start = "mean_test_"
        known = [c.removeprefix(start) for c in results if c.startswith(start)]
        raise ValueError(f"`metric` must be one of {known}. Got {metric!r}.")


def _find_depth(params, depth):
    """Return the name of the parameter that is the depth."""
    names = [*dict.fromkeys(name for candidate in params for name in candidate)]
    found = [name for name in names if name.split("__")[-1] in _DEPTHS]
    if depth is not None:
        if depth in names:
            return depth
        raise ValueError(f"`depth` must be a searched parameter: {names}. Got {depth}.")
    if len(found) != 1:
        raise ValueError(
            "The search must vary `freeze` or `stage`, and `depth` must say which if "
            f"it varies several. Got a search over {names}."
        )
    return found[0]


def _name_depths(search, params, depth):
    """Return the name of each candidate's depth, and the names in order."""
    prefix = depth.rpartition("__")[0]
    param = f"{prefix}__backbone" if prefix else "backbone"
    if any(param in candidate for candidate in params):
        return _count_depths(search, params, depth, param)
    backbone = _backbone_of(search, prefix)
    default = _params(search)[depth]
    ends = [_boundary(candidate.get(depth, default), backbone) for candidate in params]
    listed = backbone.in_order(end for end in ends if end != _AUTO)
    stages = [_shown(end) for end in [*listed, *([_AUTO] if _AUTO in ends else [])]]
    return [_shown(end) for end in ends], stages


def _count_depths(search, params, depth, param):
    """Return numbers of stages as names, for a search over several backbones."""
    counts, defaults = [], _params(search)
    for candidate in params:
        settings = {**defaults, **candidate}
        backbone = load_backbone(settings[param], weights=None)
        end = _boundary(settings[depth], backbone)
        counts.append(end if end == _AUTO else backbone.n_stages_before(end))
    known = sorted({n for n in counts if n != _AUTO})
    stages = [*map(str, known), *([_AUTO] if _AUTO in counts else [])]
    return [*map(str, counts)], stages


def _backbone_of(search, prefix) -> Backbone:
    """Return the backbone of all candidates, preferably that of the refitted one."""
    if hasattr(search, "best_estimator_"):
        return fitted_reader(search).backbone_
    given = _params(search)[f"{prefix}__backbone" if prefix else "backbone"]
    return load_backbone(given, weights=None)


def _params(search):
    """Return the parameters of what is searched; None stands for the default."""
    if search.estimator is not None:
        return search.estimator.get_params()
    default = FineTunedClassifier if is_classifier(search) else FineTunedRegressor
    return default().get_params()


def _boundary(value, backbone):
    """Return the name of the boundary that a value of `freeze` or `stage` means."""
    if isinstance(value, str) and value == _AUTO:
        return _AUTO
    if isinstance(value, list | tuple):  # features of several stages
        return backbone.in_order([_boundary(one, backbone) for one in value])[-1]
    value = value.item() if isinstance(value, np.generic) else value
    return resolve_freeze("all" if value == "last" else value, backbone)


def _shown(end):
    return "nothing" if end == "input" else end


def _choose_lines(params, depth, lines):
    """Return the names of the parameters whose values get a line each."""
    others = [*dict.fromkeys(n for candidate in params for n in candidate)]
    others.remove(depth)
    if lines is not None:
        for name in lines:
            if name not in others:
                raise ValueError(
                    f"`lines` must be other searched parameters: {others}. "
                    f"Got {name!r}."
                )
        return [*lines]
    n_lines = len({_label(candidate, others) for candidate in params})
    return others if n_lines <= _MOST_LINES else []


def _label(candidate, lines):
    """Return the label of a candidate, as "grid=2, C=1"."""
    return ", ".join(
        f"{name.split('__')[-1]}={_text(candidate[name])}"
        for name in lines
        if name in candidate
    )


def _text(value):
    if isinstance(value, float):
        return f"{value:.3g}"
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _best_of_each(table):
    """Return the best candidate of each line and depth, in order."""
    ranked = table.sort_values("score", ascending=False, kind="stable")
    return ranked.drop_duplicates(["label", "depth"]).sort_index()


def _name_score(search, metric):
    """Return the label of a metric."""
    if metric != "score":
        return metric.replace("_", " ")
    scoring = getattr(search, "scoring", None)
    if isinstance(scoring, str):
        return scoring.replace("neg_", "negative ").replace("_", " ")
    if callable(scoring):
        return getattr(scoring, "__name__", "score").replace("_", " ")
    if is_classifier(search):
        return "accuracy"
    return "R²" if is_regressor(search) else "score"
