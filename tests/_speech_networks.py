"""Tiny networks of transformers for sound with random weights, in folders."""

import torch
import transformers

N_LAYERS = 3
_CONVOLUTIONS = {
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 8, 8),
}
_WAVEFORM = {
    **_CONVOLUTIONS,
    "hidden_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "initializer_range": 0.2,
}
_LATE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# Configurations by the kind of network, and feature extractors.
CONFIGS = {
    "wav2vec2": ("Wav2Vec2Config", _WAVEFORM),
    "wav2vec2-large": ("Wav2Vec2Config", {**_WAVEFORM, **_LATE}),
    "hubert": ("HubertConfig", _WAVEFORM),
    "hubert-large": ("HubertConfig", {**_WAVEFORM, **_LATE}),
    "wavlm": (
        "WavLMConfig",
        {**_WAVEFORM, "num_buckets": 16, "max_bucket_distance": 32},
    ),
    "wavlm-large": (
        "WavLMConfig",
        {**_WAVEFORM, **_LATE, "num_buckets": 16, "max_bucket_distance": 32},
    ),
    "whisper": (
        "WhisperConfig",
        {
            "d_model": 32,
            "encoder_layers": N_LAYERS,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 37,
            "decoder_layers": 1,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 37,
            "num_mel_bins": 16,
            "max_source_positions": 50,
            "vocab_size": 64,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "init_std": 0.2,
        },
    ),
    "ast": (
        "ASTConfig",
        {
            "hidden_size": 32,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": 4,
            "intermediate_size": 37,
            "patch_size": 8,
            "frequency_stride": 8,
            "time_stride": 8,
            "max_length": 64,
            "num_mel_bins": 16,
            "initializer_range": 0.2,
        },
    ),
}
WAVEFORMS = [kind for kind in CONFIGS if kind not in ("whisper", "ast")]


def _extractor(kind):
    if kind == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    if kind == "ast":
        return transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=64)
    return transformers.Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=kind.endswith("large")
    )


def save_network(folder, kind):
    """Write a tiny network of a kind and its feature extractor into a folder (str)."""
    name, settings = CONFIGS[kind]
    config = getattr(transformers, name)(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
        for parameter in model.parameters():  # no scale of 1 or shift of 0
            parameter.data += 0.02 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    _extractor(kind).save_pretrained(folder)
    return str(folder)


def plain_network(folder):
    """Return the network in a folder as transformers makes it, without a decoder."""
    model = transformers.AutoModel.from_pretrained(folder, dtype="float32").eval()
    return model.get_encoder() if model.config.is_encoder_decoder else model


def plain_inputs(folder, values):
    """Return the inputs of one waveform as transformers makes them."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    made = extractor(values, sampling_rate=16_000, return_tensors="pt")
    return {name: made[name] for name in made if name.startswith("input")}
