"""Backbones of timm, with the preprocessing that their weights carry."""

import csv
import math
import os
import re
import sys
from functools import cache
from importlib.metadata import version
from importlib.resources import files

import timm
import torch
from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._download import (
    check_weights_file,
    explain_download,
    fetch_weights,
    hub_file,
)
from sktransfer.backbones._images import size_error
from sktransfer.backbones._registry import BackboneProvider
from sktransfer.backbones._state_dict import read_mapping
from sktransfer.inputs import ImagePreprocessing

__all__ = ["TimmProvider", "n_parameters", "timm_adapted", "timm_preprocessing"]

_FILES = ("model.safetensors", "pytorch_model.bin")
_SHA256 = re.compile("[0-9a-f]{64}")


class TimmProvider(BackboneProvider):
    """Models of timm, by architecture or with the tag of their weights.

    As in ``"convnext_nano"`` and ``"convnext_nano.in12k"``.
    """

    def names(self):
        """Return all weights, and the architectures without any (list of str)."""
        pretrained = timm.list_pretrained()
        trained = {name.partition(".")[0] for name in pretrained}
        return sorted([*pretrained, *({*timm.list_models()} - trained)])

    def provides(self, name):
        """Return whether there is this architecture (bool)."""
        return timm.is_model(name.partition(".")[0])

    def load(self, name, *, weights, image_size, make):
        """Make a model; ``weights`` may be a tag.

        Raises
        ------
        ValueError
            If there are no weights of this name, or none for this image size.
        OSError
            If the weights cannot be downloaded.
        """
        architecture, _, tag = name.partition(".")
        if weights not in ("default", None):
            tag = weights
        name = f"{architecture}.{tag}" if tag else architecture
        _check_weights(name, architecture, weights)
        options = _size_options(name, image_size)
        if weights is not None:
            options |= _pretrained_options(name)
        module = make(lambda: _create(name, options))
        config = module.pretrained_cfg
        for entry in ("file", "state_dict"):  # of this machine
            config.pop(entry, None)
        classifier = config.get("classifier") or None
        is_one = isinstance(classifier, str)
        return Backbone(
            module,
            preprocessing=timm_preprocessing(config),
            name=name,
            weights=None if weights is None else config.get("tag") or "default",
            license=config.get("license"),
            classifier=[classifier] if is_one else classifier and list(classifier),
        )

    def describe(self, name):
        """Return what :func:`list_backbones` lists of a model (list of dict)."""
        architecture, _, tag = name.partition(".")
        config = timm.models.get_pretrained_cfg(name)
        row = {
            "parameters": n_parameters(architecture),
            "input_size": config.input_size[-1] if config else None,
            "weights": tag or None,
            "license": config.license if config else None,
            "available": config is not None and _cached_file(config) is not None,
        }
        return [row]

    def card_entries(self, name, weights):
        """Return where the weights come from (dict)."""
        address = f"https://huggingface.co/timm/{name}"
        return {"source": f"timm {version('timm')}, {address}"}

    def adapt(self, state, network):
        """Return a checkpoint that fits a network (dict)."""
        return timm_adapted(state, network)


def timm_adapted(state, network):
    """Return a checkpoint as timm adapts it: names, position embeddings, … (dict).

    It is as it was where timm has no filter for checkpoints of this architecture.
    """
    home = sys.modules[type(network).__module__]
    filter_ = getattr(home, "checkpoint_filter_fn", None)
    return state if filter_ is None else filter_(state, network)


def _pretrained_options(name):
    """Return what makes timm take weights that are on this machine (dict)."""
    config = timm.models.get_pretrained_cfg(name)
    path = _weights_file(name, config)
    # That of the file at a URL is no matter of the one on Hugging Face.
    is_custom = config.custom_load and (
        config.custom_load == "hf" or _is_at_url(config)
    )
    if is_custom or path.endswith(".safetensors"):
        overlay = {"file": path, "custom_load": is_custom}
    else:  # old versions of timm would run code in a pickle
        overlay = {"state_dict": read_mapping(path)}
    return {"pretrained": True, "pretrained_cfg_overlay": overlay}


def _is_at_url(config):
    return not config.hf_hub_id


def _weights_file(name, config):
    """Return the path of a model's weights, downloaded if they are not there (str)."""
    name = f"timm/{name}"
    if _is_at_url(config):
        return fetch_weights(name, config.url)
    path = _cached_file(config)
    if path is None:
        with explain_download(name, _address(config)):
            path = _download_from_hub(config)
    blob = os.path.realpath(path)  # which is named by its SHA-256 if it is a large file
    if _SHA256.fullmatch(os.path.basename(blob)):
        check_weights_file(name, blob, os.path.basename(blob))
    return path


def _files_of(config):
    return [config.hf_hub_filename] if config.hf_hub_filename else _FILES


def _download_from_hub(config):
    """Download weights into the cache of Hugging Face; return their path (str)."""
    first, *others = _files_of(config)
    try:
        return hf_hub_download(config.hf_hub_id, first)
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError) or not others:
            raise  # without a connection, there is no use in asking for another file
        return hf_hub_download(config.hf_hub_id, others[0])


def _cached_file(config):
    """Return the path of weights that are on this machine (str or None)."""
    if _is_at_url(config):
        path = hub_file(config.url) if config.url else ""
        return path if os.path.isfile(path) else None
    found = (try_to_load_from_cache(config.hf_hub_id, f) for f in _files_of(config))
    return next((path for path in found if isinstance(path, str)), None)


def _address(config):
    """Return where weights on Hugging Face are downloaded from (str)."""
    return hf_hub_url(config.hf_hub_id, _files_of(config)[0])


def _size_options(name, image_size):
    """Return what to make a network of a fixed size with, if not its own (dict)."""
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.fixed_input_size:
        return {}
    own = timm_preprocessing(config.to_dict())
    size = own.with_size(image_size).size
    return {} if size == own.size else {"img_size": size}


def _create(name, options):
    try:
        return timm.create_model(name, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        if "img_size" not in options:
            raise
        config = timm.models.get_pretrained_cfg(name)
        size, own = options["img_size"], config.input_size[1:]
        raise size_error(f"timm/{name}", size, own, error) from error


def _check_weights(name, architecture, weights):
    if weights is None and name == architecture:
        return
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
    tags += [""] if timm.is_model_pretrained(architecture) else []
    if name.partition(".")[2] not in tags and not (tags and "." not in name):
        raise ValueError(
            f"'timm/{name}' has no such weights. `weights` must be one of "
            f"{sorted(filter(None, tags))}, None for random ones, or a file's path."
        )


def timm_preprocessing(config):
    """Return the preprocessing of a configuration of timm (ImagePreprocessing)."""
    data = timm.data.resolve_data_config(pretrained_cfg=config)
    height, width = data["input_size"][1:]
    crop = data["crop_pct"]
    # timm scales the shorter side for a square input, and both sides else; "squash"
    # disregards the aspect ratio.
    if data["crop_mode"] == "squash" or height != width:
        resize = (math.floor(height / crop), math.floor(width / crop))
    else:
        resize = math.floor(height / crop)
    return ImagePreprocessing(
        size=(height, width),
        resize=resize,
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )


def n_parameters(architecture):
    """Return the number of parameters of an architecture (int).

    It is taken from the table in this folder, and counted if that is older than it.
    """
    known = _table().get(f"timm/{architecture}")
    return _count_parameters(architecture) if known is None else known


@cache
def _count_parameters(architecture):
    with torch.device("meta"):  # without memory
        module = timm.create_model(architecture)
    return sum(p.numel() for p in module.parameters())


@cache
def _table():
    file = files("sktransfer.backbones") / "_parameters.csv"
    with file.open(encoding="utf-8") as lines:
        return {row["name"]: int(row["parameters"]) for row in csv.DictReader(lines)}
