import json
import os
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.backbones import (
    list_backbones,
    list_providers,
    load_backbone,
    model_card,
)
from sktransfer.backbones._huggingface import (
    Settings,
    cached_repositories,
    read_settings,
)
from tests._transformers import make_texts, save_network, save_tokenizer

TEXTS, LABELS = make_texts(12)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Return the folder of a tiny BERT. Tests must not change it."""
    return save_network(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def folder(bert, tmp_path):
    """Return a copy of that folder."""
    return shutil.copytree(bert, tmp_path / "bert")


def features(backbone, **settings):
    return PretrainedFeatureExtractor(backbone, **settings).fit_transform(TEXTS)


def test_folder_or_name(bert, monkeypatch):
    assert "hf" in list_providers()
    expected = features(bert)
    np.testing.assert_array_equal(features(f"hf/{bert}"), expected)
    monkeypatch.chdir(os.path.dirname(bert))
    np.testing.assert_array_equal(features(os.path.basename(bert)), expected)
    backbone = load_backbone(bert)
    assert backbone.provider == "hf"
    assert model_card(backbone).source == f"the folder {bert}"


def test_weights(bert):
    random = [load_backbone(bert, weights=None, random_state=s) for s in (0, 0, 1)]
    prints = [backbone.fingerprint for backbone in random]
    assert prints[0] == prints[1] != prints[2]
    assert load_backbone(bert).fingerprint not in prints
    with pytest.raises(ValueError, match="`weights` of 'hf/.*' must be 'default', No"):
        load_backbone(bert, weights="other")


@pytest.mark.parametrize("kind", ["bert", "gpt2", "albert", "t5"])
def test_checkpoints_under_the_names_of_the_library(kind, tmp_path):
    folder, path = save_network(tmp_path, kind), tmp_path / "other.safetensors"
    state = load_file(tmp_path / "model.safetensors")
    save_file({f"start.{k}": v + 1 for k, v in state.items()}, path)
    other = load_backbone(folder, weights=path).network.state_dict()
    before = load_backbone(folder).network.state_dict()
    for name, tensor in other.items():
        torch.testing.assert_close(tensor, before[name] + 1)


def test_weights_that_torch_saved(folder):
    expected = features(str(folder))
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    np.testing.assert_array_equal(features(f"hf/{folder}"), expected)


def test_pickles_that_could_run_code_are_refused(folder):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch evil",)

    (folder / "model.safetensors").unlink()
    torch.save({"evil": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(Exception, match="(?i)weights.only"):
        load_backbone(str(folder))
    assert not os.path.exists("evil")


def test_code_of_a_repository_is_never_run(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    path.write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(ValueError, match="needs code from its repository, which is ne"):
        load_backbone(str(folder))


def test_changed_folder_is_read_again(folder):
    first = features(str(folder))
    state = {k: -v for k, v in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert not np.allclose(features(str(folder)), first)


def test_repository_in_the_cache(bert, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True)
    assert cached_repositories() == []
    repository = tmp_path / "models--acme--tiny"
    shutil.copytree(bert, repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    assert list_backbones(provider="hf")["name"].tolist() == ["hf/acme/tiny"]
    np.testing.assert_array_equal(features("hf/acme/tiny"), features(bert))
    card = model_card(load_backbone("hf/acme/tiny"))
    assert card.source == "https://huggingface.co/acme/tiny"
    message = "'acme/none' is no folder .* could not be taken from https://huggingface"
    with pytest.raises(OSError, match=message):
        load_backbone("hf/acme/none")


def test_tokenizer_is_needed(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match="has no `tokenizer.json`, the format of"):
        load_backbone(str(folder))


def test_settings_of_sentence_transformers(folder):
    def write(name, content):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))

    assert read_settings(str(folder)) == Settings()
    types = "sentence_transformers.models"
    write(
        "modules.json",
        [
            {"path": "", "type": f"{types}.Transformer"},
            {"path": "1_Pooling", "type": f"{types}.Pooling"},
            {"path": "2_Normalize", "type": f"{types}.Normalize"},
        ],
    )
    write("1_Pooling/config.json", {"pooling_mode_cls_token": True})
    write("sentence_bert_config.json", {"max_seq_length": 10})
    prompts = {"prompts": {"query": "the "}, "default_prompt_name": "query"}
    write("config_sentence_transformers.json", prompts)
    assert read_settings(str(folder)) == Settings("cls", True, 10, "the ")
    backbone = load_backbone(str(folder))
    assert backbone.own_pooling == ("cls", True)
    assert backbone.preprocessing.max_length == 10
    with pytest.warns(UserWarning, match="have more than 10 tokens"):
        found = features(str(folder))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    for config, expected in [
        ({"pooling_mode": "mean"}, "avg"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, None),
    ]:
        write("1_Pooling/config.json", config)
        assert read_settings(str(folder)).pooling == expected


def test_networks_of_the_library_need_their_tokenizer(bert):
    model = transformers.AutoModel.from_pretrained(bert)
    with pytest.raises(ValueError, match="BertModel does not say which tokenizer"):
        FineTunedClassifier(model).fit(TEXTS, LABELS)


def test_names_without_provider_are_no_repositories():
    with pytest.raises(ValueError, match="There is no backbone 'bert-base-uncased'"):
        load_backbone("bert-base-uncased")


def test_limits_of_the_network_and_the_tokenizer(tmp_path):
    folder = save_network(tmp_path, "roberta")
    save_tokenizer(folder, has_types=False, max_length=10**30)
    # 64 positions, of which those up to the one of the padding token are not used, and
    # one stays free.
    assert load_backbone(folder).preprocessing.max_length == 62


def test_a_network_of_any_length(tmp_path):
    sizes = {"vocab_size": 64, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 8}
    config = transformers.XLNetConfig(**sizes)
    assert config.max_position_embeddings == -1
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, has_types=False, max_length=10**30)
    with pytest.warns(UserWarning, match="XLNetModel is a single stage"):
        assert load_backbone(str(tmp_path)).preprocessing.max_length == 512


def test_a_network_without_a_padding_token(tmp_path):
    sizes = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 4}
    config = transformers.CodeGenConfig(**sizes, n_positions=64, rotary_dim=4)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, has_types=False)
    assert load_backbone(str(tmp_path)).stage_names[-1] == "layer1"


@pytest.mark.parametrize("kind", ["bert", "distilbert", "albert", "gpt2", "mpnet"])
def test_texts_longer_than_the_network_are_truncated(tmp_path, kind):
    folder = save_network(tmp_path, kind)
    save_tokenizer(folder, has_types=kind in ("bert", "albert"), max_length=10**30)
    texts = ["good film " * 100, "good film " * 200, "bad"]
    with pytest.warns(UserWarning, match="have more than 6[1-3] tokens"):
        found = PretrainedFeatureExtractor(folder).fit_transform(texts)
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_pooling_that_changed_below_a_folder_is_seen(tmp_path):
    folder = save_network(tmp_path)
    types = "sentence_transformers.models"
    modules = [{"path": "1_Pooling", "type": f"{types}.Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    found = []
    for kind in ("mean_tokens", "cls_token"):
        config = json.dumps({f"pooling_mode_{kind}": True})
        (tmp_path / "1_Pooling" / "config.json").write_text(config)
        found.append(features(folder))
    assert abs(found[0] - found[1]).max() > 1e-2
