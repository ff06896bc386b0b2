"""What is known of a backbone: its origin, and what it may be used for.

Every entry says what its source says, and "not stated" where none does.
"""

import csv
import dataclasses
import json
import os
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from sklearn.base import BaseEstimator
from torch import nn

from sktransfer.backbones._registry import get_provider
from sktransfer.utils import check_is_fitted

__all__ = [
    "NOT_STATED",
    "STATE_DICT",
    "ModelCard",
    "card_of",
    "describe_training",
    "model_card",
    "stated_license",
]

NOT_STATED = "not stated"
STATE_DICT = "a state dict"  # what weights are called that come as one
_ENDINGS = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar")
_PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "sktransfer")
# By the parts of the name of weights, in this order: the first fine-tuned on the last.
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


def stated_license(license):
    """Return a license as a provider states it, or "not stated" (str)."""
    return license if license and license != "unknown" else NOT_STATED


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What there is to know of a backbone, and of what was trained on top.

    Parameters
    ----------
    name : str
        Of the backbone.
    source : str
        Who provides it, and where the weights come from.
    architecture : str
        Class of the network, and its stages.
    weights : str
        What they are called; "random" if there are none.
    training_data : str
        What the weights were trained on, as their source or their name says.
    license : str
        Of the weights, as their source states it, or "not stated".
    citation : str
    preprocessing : dict
        What the model input is made by.
    parameters, multiply_adds : int
        Of the whole network; the latter for one sample.
    checksum : str
        First 32 hexadecimal digits of a SHA-256 of the names and values of all tensors.
    trained : dict, default=None
        What was trained on top: samples, classes, strategy, freeze depth, date and
        versions. None for a backbone as it came.

    See Also
    --------
    model_card : Makes one.
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

    def to_dict(self):
        """Return the entries (dict), of numbers, strings, lists and dicts only."""
        return dataclasses.asdict(self)

    def to_json(self):
        """Return the entries as JSON (str)."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text):
        """Read what :meth:`to_json` wrote.

        Parameters
        ----------
        text : str

        Returns
        -------
        ModelCard
        """
        return cls(**json.loads(text))

    def with_training(self, trained):
        """Return a card that also says what was trained on top (ModelCard).

        Parameters
        ----------
        trained : dict
        """
        return dataclasses.replace(self, trained=dict(trained))

    def sections(self):
        """Return the card as titles and texts in Markdown.

        ``skops.card.Card(model).add(**card.sections())`` puts them into a card of
        skops.

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


def model_card(backbone):
    """Say where a backbone comes from and what its weights may be used for.

    Parameters
    ----------
    backbone : Backbone, str or fitted estimator
        A name is loaded, see :func:`load_backbone`; an estimator returns its own card.

    Returns
    -------
    ModelCard
        Prints as text; `to_json` and `to_dict` give it to programs.

    See Also
    --------
    list_backbones : Filters by license.

    Notes
    -----
    Licenses and data are those that the providers state: the metadata of torchvision's
    and timm's weights, and the packages of the shipped ones. No license of a file is a
    statement on the images that it was trained on.

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
    if isinstance(backbone, str | nn.Module):
        from sktransfer.backbones._load import load_backbone

        backbone = load_backbone(backbone)
    entries = _entries_of_origin(backbone)
    return ModelCard(
        name=backbone.name,
        architecture=_architecture(backbone),
        preprocessing=_plain(vars(backbone.preprocessing)),
        parameters=backbone.n_parameters,
        multiply_adds=int(backbone.multiply_adds("input", "output")),
        checksum=backbone.weights_fingerprint("output"),
        **entries,
    )


def _entries_of_origin(backbone):
    """Return what a card says of the weights and of where they come from (dict)."""
    weights, provider = backbone.weights, backbone.provider
    entries = {
        "source": "a module of the user's",
        "weights": weights or NOT_STATED,
        "training_data": NOT_STATED,
        "license": stated_license(backbone.license),
        "citation": paper_of(backbone.name) or NOT_STATED,
    }
    if _is_given(weights):
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


def card_of(backbone):
    """Return the card of a backbone whose weights will not change, made once."""
    if backbone.card is None:
        backbone.card = model_card(backbone)
    return backbone.card


def describe_training(**entries):
    """Return entries of what was trained, with the date and versions of it (dict)."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    versions = {name: version(name) for name in _PACKAGES}
    return {**_plain(entries), "date": now, "versions": versions}


def _plain(value):
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def _architecture(backbone):
    n = len(backbone.stages)
    kind = type(backbone.network).__name__
    return f"{kind}, {n} stage{'s' if n > 1 else ''}"


def _is_given(weights):
    """Whether weights are the user's own: a file or a state dict."""
    if weights is None or weights == STATE_DICT:
        return weights == STATE_DICT
    folder, name = os.path.split(weights)
    return bool(folder) or os.path.splitext(name)[1] in _ENDINGS


@cache
def _papers():
    file = files("sktransfer.backbones") / "_papers.csv"
    with file.open(encoding="utf-8") as lines:
        return {row["architecture"]: row["paper"] for row in csv.DictReader(lines)}


def paper_of(name):
    """Return what the architecture of a backbone is cited by (str or None).

    It is found by the beginning of the name, with or without the provider in front; the
    longest that fits is taken.
    """
    bare = name.rpartition("/")[2].removeprefix("tf_")
    fitting = [start for start in _papers() if bare.startswith(start)]
    return _papers()[max(fitting, key=len)] if fitting else None


def training_data_of(weights):
    """Return what weights were trained on, as their name says (str or None).

    The last part of a name is named last, as timm does: ``"ft_in22k_in1k"``.
    """
    parts = weights.lower().split("_")
    found = [_DATA[part] for part in parts if part in _DATA]
    return ", then ".join(dict.fromkeys(found)) if found else None
