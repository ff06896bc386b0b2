"""Backbones of timm, with the preprocessing of their weights."""

import csv
import math
import os
import sys
from functools import cache
from importlib.metadata import version
from importlib.resources import files

import timm
import torch
from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._files import (
    explain_download,
    fetch_weights,
    hub_file,
    read_mapping,
)
from sktransfer.backbones._images import size_error
from sktransfer.backbones._registry import BackboneProvider
from sktransfer.inputs import ImagePreprocessing

_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmProvider(BackboneProvider):
    """Models of timm by architecture or by weights, as ``"convnext_nano.in12k"``."""

    def names(self):
        """Return the names of weights, and of architectures without weights."""
        pretrained = timm.list_pretrained()
        trained = {name.partition(".")[0] for name in pretrained}
        return sorted([*pretrained, *({*timm.list_models()} - trained)])

    def provides(self, name):
        """Return whether there is this architecture."""
        return timm.is_model(name.partition(".")[0])

    def load(self, name, *, weights, image_size, make):
        """Make a model; ``weights`` may be a tag, such as ``"in12k"``."""
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
        for entry in ("file", "state_dict"):  # the loaded weights are not kept
            config.pop(entry, None)
        return Backbone(
            module,
            preprocessing=timm_preprocessing(config),
            name=name,
            weights=None if weights is None else config.get("tag") or "default",
            license=config.get("license"),
            classifier=config.get("classifier") or None,
        )

    def describe(self, name):
        """Return the row about a model."""
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
        """Return where the weights come from."""
        address = f"https://huggingface.co/timm/{name}"
        return {"source": f"timm {version('timm')}, {address}"}

    def adapt(self, state, network):
        """Return a checkpoint that fits a network."""
        return timm_adapted(state, network)


def timm_adapted(state: dict, network: nn.Module) -> dict:
    """Return a checkpoint with names and position embeddings adapted by timm.

    It is returned unchanged if timm has no filter for this architecture.
    """
    home = sys.modules[type(network).__module__]
    filter_ = getattr(home, "checkpoint_filter_fn", None)
    return state if filter_ is None else filter_(state, network)


def _pretrained_options(name):
    """Return the options with which timm loads weights from this machine."""
    config = timm.models.get_pretrained_cfg(name)
    path = _weights_file(name, config)
    # A custom format is that of the file at the URL, or else of the one at the hub.
    if config.custom_load and (config.custom_load == "hf" or _is_at_url(config)):
        overlay = {"file": path, "custom_load": config.custom_load}
    else:
        overlay = {"state_dict": read_mapping(path)}
    return {"pretrained": True, "pretrained_cfg_overlay": overlay}


def _is_at_url(config):
    return not config.hf_hub_id


def _weights_file(name, config) -> str:
    """Return the path of weights, downloaded if they are not on this machine."""
    name = f"timm/{name}"
    if _is_at_url(config):
        return fetch_weights(name, config.url)
    path = _cached_file(config)
    if path is None:
        with explain_download(name, _address(config)):
            path = _download_from_hub(config)
    return path


def _files_of(config):
    return [config.hf_hub_filename] if config.hf_hub_filename else _FILES


def _download_from_hub(config) -> str:
    """Download weights into the cache of Hugging Face, and return their path."""
    first, *others = _files_of(config)
    try:
        return hf_hub_download(config.hf_hub_id, first)
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError) or not others:
            raise  # without a connection, another file cannot be downloaded either
        return hf_hub_download(config.hf_hub_id, others[0])


def _cached_file(config) -> str | None:
    """Return the path of weights on this machine, or None."""
    if _is_at_url(config):
        path = hub_file(config.url) if config.url else ""
        return path if os.path.isfile(path) else None
    found = (try_to_load_from_cache(config.hf_hub_id, f) for f in _files_of(config))
    return next((path for path in found if isinstance(path, str)), None)


def _address(config) -> str:
    """Return the URL of weights on Hugging Face."""
    return hf_hub_url(config.hf_hub_id, _files_of(config)[0])


def _size_options(name, image_size) -> dict:
    """Return the options for a network that is built for another size."""
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


def timm_preprocessing(config: dict) -> ImagePreprocessing:
    """Return the preprocessing of a model's configuration in timm."""
    data = timm.data.resolve_data_config(pretrained_cfg=config)
    height, width = data["input_size"][1:]
    crop = data["crop_pct"]
    # timm scales the shorter side for a square input, and otherwise both sides;
    # "squash" ignores the aspect ratio.
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


def n_parameters(architecture: str) -> int:
    """Return the number of parameters of an architecture.

    It is read from a table, or counted if the table lacks the architecture.
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
