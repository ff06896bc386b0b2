"""Backbones of timm, with the preprocessing that their weights carry."""

import math
import os
import re
import sys

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._download import (
    check_weights_file,
    download,
    explain_download,
    fetch_weights,
    hub_file,
)
from sktransfer.backbones._size import size_error
from sktransfer.inputs import ImagePreprocessing

__all__ = ["adapt_timm", "is_cached", "list_timm", "load_timm"]

_FILES = ("model.safetensors", "pytorch_model.bin")
_SHA256 = re.compile("[0-9a-f]{64}")
_ETAG = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+=-]{0,127}")  # as names of files


def list_timm():
    """Return timm's architectures, and all their weights (two lists of str)."""
    import timm

    return timm.list_models(), timm.list_pretrained()


def load_timm(name, *, weights, image_size, make):
    """Load a model of timm.

    Parameters
    ----------
    name : str
        An architecture, or one with the tag of its weights: ``"convnext_nano.in12k"``.
    weights : str or None
        ``"default"``, or the tag; None for random weights.
    image_size : int, (int, int) or None
        A network of a fixed size is made for this one; None for the weights' own.
    make : callable
        Calls a function that makes a module under a local seed.

    Returns
    -------
    Backbone

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
    full_name = f"{architecture}.{tag}" if tag else architecture
    _check_weights(full_name, architecture, weights)
    options = _size_options(full_name, image_size)
    create = _create if weights is None else _create_pretrained
    module = make(lambda: create(full_name, options))
    config = module.pretrained_cfg
    return Backbone(
        module,
        preprocessing=_preprocessing(config),
        name=f"timm/{full_name}",
        provider="timm",
        weights=None if weights is None else config.get("tag") or "default",
        license=config.get("license"),
        classifier=_as_list(config.get("classifier")),
    )


def is_cached(name):
    """Say whether the weights of a model are on this machine (bool)."""
    import timm

    config = timm.models.get_pretrained_cfg(name)
    return config is not None and bool(_cached_files(config))


def _cached_files(config):
    """Paths in the cache of Hugging Face or, of weights that are elsewhere, torch."""
    from huggingface_hub import try_to_load_from_cache

    if not config.hf_hub_id:
        path = hub_file(config.url) if config.url else ""
        return [path] if os.path.isfile(path) else []
    files = {*_FILES, _file(config)}
    found = (try_to_load_from_cache(config.hf_hub_id, f) for f in files)
    return [path for path in found if isinstance(path, str)]


def _check_cached(full_name, config):
    """See that cached files are whole where the name of the blob is its SHA-256."""
    for path in map(os.path.realpath, _cached_files(config)):
        if _SHA256.fullmatch(os.path.basename(path)):
            check_weights_file(f"timm/{full_name}", path, os.path.basename(path))


def adapt_timm(state, module):
    """Make a checkpoint fit a network as timm does: names, position embeddings, ….

    Parameters
    ----------
    state : dict of str to torch.Tensor
    module : torch.nn.Module
        Of timm.

    Returns
    -------
    dict of str to torch.Tensor
        As it was where timm has no filter for checkpoints of this architecture.
    """
    home = sys.modules[type(module).__module__]
    filter_ = getattr(home, "checkpoint_filter_fn", None)
    return state if filter_ is None else filter_(state, module)


def _size_options(full_name, image_size):
    """Return what to make a network of a fixed size with, if not its own (dict)."""
    import timm

    config = timm.models.get_pretrained_cfg(full_name)
    if config is None or not config.fixed_input_size:
        return {}
    own = _preprocessing(config.to_dict())
    size = own.with_size(image_size).size
    return {} if size == own.size else {"img_size": size}


def _create(full_name, options, **pretrained):
    import timm

    try:
        return timm.create_model(full_name, **pretrained, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        if not options:
            raise
        config = timm.models.get_pretrained_cfg(full_name)
        size, own = options["img_size"], config.input_size[1:]
        raise size_error(f"timm/{full_name}", size, own, error) from error


def _create_pretrained(full_name, options):
    import timm

    config = timm.models.get_pretrained_cfg(full_name)
    address, was_cached = _address(config), is_cached(full_name)
    if not config.hf_hub_id:
        fetch_weights(f"timm/{full_name}", address)
    elif was_cached:
        _check_cached(full_name, config)
    else:
        with explain_download(f"timm/{full_name}", address):
            _fetch_into_cache(config)
    try:
        with explain_download(f"timm/{full_name}", address):
            module = _create(full_name, options, pretrained=True)
    except OSError as error:
        cause = error.__cause__
        if options and isinstance(cause, ValueError):  # it is the image size
            raise cause from cause.__cause__
        raise
    if not was_cached:
        _check_cached(full_name, config)
    return module


def _fetch_into_cache(config):
    """Fetch a file to where huggingface_hub, and timm by it, finds its content.

    Without a network timm would ask ten times, for 45 s; and where a server stops in
    the middle of a file, it would begin anew, again and again.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.file_download import repo_folder_name

    name = config.hf_hub_id
    for file in [config.hf_hub_filename] if config.hf_hub_filename else _FILES:
        try:
            timeout = constants.HF_HUB_ETAG_TIMEOUT
            found = get_hf_file_metadata(hf_hub_url(name, file), timeout=timeout)
        except EntryNotFoundError:
            continue  # timm knows further names
        folder = repo_folder_name(repo_id=name, repo_type="model")
        etag = _checked_etag(found.etag, file)
        path = os.path.join(constants.HF_HUB_CACHE, folder, "blobs", etag)
        if not os.path.isfile(path):
            sha256 = etag if _SHA256.fullmatch(etag) else ""
            download(found.location, path, sha256)
        return


def _checked_etag(etag, file):
    """Return an ETag, by which the cache names a file, if it stays in its folder."""
    if not _ETAG.fullmatch(etag or ""):
        raise ValueError(
            f"the ETag of {file!r} must be 1 to 128 letters, digits or any of '._+=-', "
            f"since the cache names the file so; the server says {etag!r}"
        )
    return etag


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


def _file(config):
    return config.hf_hub_filename or _FILES[0]


def _address(config):
    from huggingface_hub import hf_hub_url

    if not config.hf_hub_id:
        return config.url
    return hf_hub_url(config.hf_hub_id, _file(config))


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
