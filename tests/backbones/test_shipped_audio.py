import sys
from importlib.util import find_spec
from unittest.mock import patch

import pytest

from sktransfer.backbones import list_backbones, load_backbone, model_card
from sktransfer.backbones._shipped_audio import AUDIO


def test_libraries_that_are_not_installed():
    for library in ("soundfile", "soxr"):
        with patch.dict(sys.modules, {library: None}):
            with pytest.raises(
                ImportError, match="pip install 'sktransfer\\[audio\\]'"
            ):
                load_backbone("speech_embedding")


@pytest.mark.parametrize("name", [*AUDIO])
def test_listed_and_described(name):
    if find_spec(AUDIO[name].package) is None:
        pytest.skip(f"{AUDIO[name].package} is not installed")
    backbone = load_backbone(name)
    (row,) = list_backbones(name).to_dict("records")
    about = backbone.n_parameters, AUDIO[name].license, True
    assert (row["parameters"], row["license"], row["available"]) == about
    card = model_card(backbone)
    assert AUDIO[name].source in card.source
    assert card.license == AUDIO[name].license
    with pytest.raises(ValueError, match="must be 'default', None or the path of a fi"):
        load_backbone(name, weights="IMAGENET1K_V1")
