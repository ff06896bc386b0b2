"""Backbones of timm, with the preprocessing that their weights carry."""

import math

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._download import explain_download
from sktransfer.inputs import ImagePreprocessing

__all__ = ["is_cached", "list_timm", "load_timm"]


def list_timm():
    """Return timm's architectures, and all their weights (two lists of str)."""
    import timm

    return timm.list_models(), timm.list_pretrained()


def load_timm(name, *, weights, make):
    """Load a model of timm.

    Parameters
    ----------
    name : str
        An architecture, or one with the tag of its weights: ``"convnext_nano.in12k"``.
    weights : str or None
        ``"default"``, or the tag; None for random weights.
    make : callable
        Calls a function that makes a module under a local seed.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        If there are no weights of this name.
    OSError
        If the weights cannot be downloaded.
    """
    import timm

    architecture, _, tag = name.partition(".")
    if weights not in ("default", None):
        tag = weights
    full_name = f"{architecture}.{tag}" if tag else architecture
    _check_weights(full_name, architecture, weights)
    if weights is None:
        module = make(lambda: timm.create_model(full_name))
    else:
        config = timm.models.get_pretrained_cfg(full_name)
        place = "the Hugging Face cache (HF_HOME)"
        with explain_download(f"timm/{full_name}", _address(config), place):
            module = make(lambda: timm.create_model(full_name, pretrained=True))
    config = module.pretrained_cfg
    return Backbone(
        module,
        preprocessing=_preprocessing(config),
        name=f"timm/{full_name}",
        provider="timm",
        weights=None if weights is None else config.get("tag") or "default",
        licence=config.get("license"),
        classifier=_as_list(config.get("classifier")),
    )


def is_cached(name):
    """Say whether the weights of a model are in the Hugging Face cache (bool)."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return False
    files = ("model.safetensors", "pytorch_model.bin")
    found = (try_to_load_from_cache(config.hf_hub_id, f) for f in files)
    return any(isinstance(path, str) for path in found)


def _check_weights(full_name, architecture, weights):
    import timm

    if weights is None and full_name == architecture:
        return
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
    tags += [""] if timm.is_model_pretrained(architecture) else []
    if full_name.partition(".")[2] not in tags and not (tags and "." not in full_name):
        raise ValueError(
            f"'timm/{full_name}' has no such weights. `weights` must be one of "
            f"{sorted(filter(None, tags))}, None for random ones, or a file's path."
        )


def _address(config):
    return (
        f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
    )


def _as_list(classifier):
    if not classifier:
        return None
    return [classifier] if isinstance(classifier, str) else list(classifier)


def _preprocessing(config):
    import timm

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
