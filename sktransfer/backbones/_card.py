"""Model cards, and tables of the stages of a backbone.

An entry repeats what its source states, and is "not stated" if the source does not say.
"""

import csv
import dataclasses
import json
import os
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator
from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._boundaries import n_values
from sktransfer.backbones._load import (
    STATE_DICT,
    BackboneLike,
    are_users_own,
    load_backbone,
)
from sktransfer.backbones._registry import (
    NOT_STATED,
    get_provider,
    resolve_name,
    stated_license,
)
from sktransfer.backbones._stages import INPUT, OUTPUT
from sktransfer.utils import check_is_fitted, library_versions, types, warn_caller

# Data sets by the abbreviations in the names of weights.
_DATA = {
    "imagenet-1k": "ImageNet-1k",
    "imagenet1k": "ImageNet-1k",
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "webli": "WebLI",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "openai": "WIT-400M, of OpenAI's CLIP",
    "yfcc15m": "YFCC-15M",
    "datacompxl": "DataComp-XL",
    "swag": "Instagram images with hashtags (SWAG)",
}


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Facts about a backbone, and about what was trained on top of it.

    Parameters
    ----------
    name : str
        Name of the backbone.
    source : str
        Provider of the backbone, and where the weights come from.
    architecture : str
        Class of the network, and its number of stages.
    weights : str
        Name of the weights; "random" for random ones.
    training_data : str
        Training data of the weights, as their source or their name states.
    license : str
        License of the weights as their source states it, or "not stated".
    citation : str
        Paper of the architecture, or "not stated".
    preprocessing : dict
        Parameters of the preprocessing.
    parameters, multiply_adds : int
        Number of parameters of the whole network, and of multiply-adds per sample.
    checksum : str
        First 32 hexadecimal digits of a SHA-256 of the names and values of all tensors.
    trained : dict, default=None
        Description of the training on top: samples, classes, strategy, freeze depth,
        date and versions. None for a backbone as it was loaded.

    See Also
    --------
    model_card : Makes the card of a backbone.

    Examples
    --------
    >>> from sktransfer.backbones import load_backbone, model_card
    >>> card = model_card(load_backbone("efficientnet_lite0"))
    >>> card.weights, card.license
    ('ImageNet-1k', 'apache-2.0')
    """

    name: str
    source: str
    architecture: str
    weights: str
    training_data: str
    license: str
    citation: str
    preprocessing: dict
    parameters: int
    multiply_adds: int
    checksum: str
    trained: dict | None = None

    def to_dict(self) -> dict:
        """Return the entries as a dict of numbers, strings, lists and dicts."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the entries as JSON (str)."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Make a card of the text that :meth:`to_json` returned.

        Parameters
        ----------
        text : str

        Returns
        -------
        ModelCard
        """
        return cls(**json.loads(text))

    def sections(self) -> dict[str, str]:
        """Return the card as Markdown texts by title.

        ``skops.card.Card(model).add(**card.sections())`` adds them to a card of skops.

        Returns
        -------
        dict of str to str
        """
        entries = {k: v for k, v in self.to_dict().items() if k != "trained"}
        sections = {"Pretrained backbone": _as_list(entries)}
        if self.trained is not None:
            sections["Trained on top"] = _as_list(self.trained)
        return sections

    def __str__(self):
        """Return the card as text."""
        parts = [f"{title}\n\n{text}" for title, text in self.sections().items()]
        return "\n\n".join(parts)


def _as_list(entries):
    return "\n".join(f"- {_title(k)}: {_text(v)}" for k, v in entries.items())


def _title(name):
    return name.replace("_", " ").replace("multiply adds", "multiply-adds")


def _text(value):
    if isinstance(value, dict):
        return ", ".join(f"{_title(k)} {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        is_size = all(isinstance(v, int) for v in value)
        return (" × " if is_size else ", ").join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def model_card(backbone: Any) -> ModelCard:
    """Return the card of a backbone: its origin, license and size.

    Parameters
    ----------
    backbone : Backbone, str or fitted estimator
        A name is loaded by :func:`load_backbone`; if its weights cannot be downloaded,
        a warning says so, and the card has no checksum. The card of a fitted estimator
        also describes its training.

    Returns
    -------
    ModelCard
        ``print(card)`` shows it as text.

    See Also
    --------
    list_backbones : Lists the backbones with their licenses.

    Notes
    -----
    Licenses and training data are stated by the providers: by the metadata of
    torchvision's and timm's weights, and by the packages of the shipped ones. The
    license of weights does not cover the images that they were trained on.

    Examples
    --------
    >>> from sktransfer.backbones import model_card
    >>> card = model_card("efficientnet_lite0")
    >>> card.license, card.training_data, card.parameters
    ('apache-2.0', 'ImageNet-1k', 4652008)
    """
    if hasattr(backbone, "backbone_"):
        return backbone.model_card_
    if isinstance(backbone, BaseEstimator):
        check_is_fitted(backbone)
    if isinstance(backbone, str):
        return _card_of_name(backbone)
    if isinstance(backbone, nn.Module):
        backbone = load_backbone(backbone)
    return _card(backbone, backbone.weights_fingerprint("output"))


def _card_of_name(name):
    """Return the card of a named backbone, also if its weights cannot be downloaded."""
    try:
        return model_card(load_backbone(name))
    except OSError as error:
        warn_caller(
            f"The card has no checksum, since the weights are not on this machine and "
            f"cannot be downloaded. {error}"
        )
    backbone = load_backbone(name, weights=None)
    provider, bare = resolve_name(name)
    default = get_provider(provider).describe(bare)[0]
    backbone.weights = default.get("weights") or "default"
    backbone.license = default.get("license")
    return _card(backbone, NOT_STATED)


def _card(backbone, checksum):
    entries = _entries_of_origin(backbone)
    return ModelCard(
        name=backbone.name,
        architecture=_architecture(backbone),
        preprocessing=_plain(_shown(backbone.preprocessing)),
        parameters=backbone.n_parameters,
        multiply_adds=int(backbone.multiply_adds("input", "output")),
        checksum=checksum,
        **entries,
    )


def _entries_of_origin(backbone):
    """Return the entries of a card about the weights and their source."""
    weights, provider = backbone.weights, backbone.provider
    entries = {
        "source": "a module of the user's",
        "weights": weights or NOT_STATED,
        "training_data": NOT_STATED,
        "license": stated_license(backbone.license),
        "citation": paper_of(backbone.name) or NOT_STATED,
    }
    if are_users_own(weights):
        name = os.path.basename(weights)
        is_file = weights != STATE_DICT
        source = f"the file {name}" if is_file else "a state dict of the user's"
        entries |= {"source": source, "weights": name, "license": NOT_STATED}
    elif provider is not None:
        entries["training_data"] = training_data_of(weights or "") or NOT_STATED
        name = backbone.name.removeprefix(f"{provider}/")
        entries["source"] = f"the provider {provider}"
        entries |= get_provider(provider).card_entries(name, weights)
    if weights is None and provider is not None:
        nothing = {"training_data": "none", "license": "none"}
        entries |= {"weights": "random"} | nothing
    return entries


def card_of(backbone: Backbone) -> ModelCard:
    """Return the card of a backbone whose weights no longer change, made once."""
    if backbone.card is None:
        backbone.card = model_card(backbone)
    return backbone.card


def describe_training(**entries) -> dict:
    """Return entries about a training, with its date and versions of libraries."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**_plain(entries), "date": now, "versions": library_versions()}


def _shown(preprocessing):
    """Return the parameters of a preprocessing, without those that its repr omits."""
    fields = getattr(preprocessing, "__dataclass_fields__", {})
    hidden = [name for name, field in fields.items() if not field.repr]
    return {k: v for k, v in vars(preprocessing).items() if k not in hidden}


def _plain(value):
    """Convert a value to types that JSON supports."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def _architecture(backbone):
    n, kind = len(backbone.stages), type(backbone.network).__name__
    return f"{kind}, {n} stage{'s' if n > 1 else ''}"


@cache
def _papers():
    file = files("sktransfer.backbones") / "_papers.csv"
    with file.open(encoding="utf-8") as lines:
        return {row["architecture"]: row["paper"] for row in csv.DictReader(lines)}


def paper_of(name: str) -> str | None:
    """Return the paper of an architecture, or None if it is not known.

    The longest known prefix of the name, without its provider, decides.
    """
    bare = name.rpartition("/")[2].removeprefix("tf_")
    fitting = [start for start in _papers() if bare.startswith(start)]
    return _papers()[max(fitting, key=len)] if fitting else None


def training_data_of(weights: str) -> str | None:
    """Return the training data of weights, as their name states.

    The last part of a name is the data of the last training, as in ``"ft_in22k_in1k"``.
    None if the name does not say.
    """
    parts = weights.lower().split("_")
    found = [_DATA[part] for part in parts if part in _DATA]
    return ", then ".join(dict.fromkeys(found)) if found else None


def describe_backbone(
    spec: BackboneLike = "efficientnet_lite0",
    *,
    weights: types.Weights = None,
    blocks: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Describe a backbone stage by stage.

    Parameters
    ----------
    spec : str, torch.nn.Module, callable or Backbone, default="efficientnet_lite0"
        See :func:`load_backbone`.
    weights : str, os.PathLike or None, default=None
        The description does not depend on the weights, so none are loaded by default.
    blocks : bool, default=False
        Whether to list the blocks inside the stages as well.
    **options
        Other parameters of :func:`load_backbone`.

    Returns
    -------
    pandas.DataFrame
        One row per stage (or block), in order of execution, with the columns

        - ``index``: the value of `freeze` that freezes up to and including this stage;
          missing for blocks, which `freeze` takes by name;
        - ``name``;
        - ``parameters``: the number of parameters;
        - ``multiply_adds``: the number of multiply-adds per sample;
        - ``activation_shape``: the shape of one sample's activation at the end;
        - ``activation_bytes``: the size of that activation in float32;
        - ``cumulative_share``: the share of the network's multiply-adds up to and
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
    stages = {name: i for i, name in enumerate(backbone.stage_names, 1)}
    rows, start, done = [], INPUT, 0
    for name in names:
        n = backbone.multiply_adds(start, name)
        done += n
        shape = backbone.activation_shape(name)
        row = {
            "index": stages.get(name, pd.NA),
            "name": name,
            "parameters": sum(
                p.numel() for p in backbone.section(start, name).parameters()
            ),
            "multiply_adds": n,
            "activation_shape": shape,
            "activation_bytes": 4 * n_values(shape),
            "cumulative_share": done / total if total else 1.0,
        }
        rows.append(row)
        start = name
    return pd.DataFrame(rows).astype({"index": "Int64"})
