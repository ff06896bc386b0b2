"""Tiny networks of transformers with random weights, in folders, and a tokenizer."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = (
    "a an the film was is not very good bad dull fine story actors plot slow funny one "
    "two three many quick brown fox jumps over lazy dog while others watch it . , !"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
N_LAYERS = 3
_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "initializer_range": 0.2,
}
_DECODER = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "conv_kernel_size": 3,
}
# Configurations by the kind of network, with what makes each kind special.
CONFIGS = {
    "bert": ("BertConfig", _SIZES),
    "roberta": ("RobertaConfig", _SIZES),
    "distilbert": (
        "DistilBertConfig",
        {
            "vocab_size": 64,
            "dim": 32,
            "n_layers": N_LAYERS,
            "n_heads": 4,
            "hidden_dim": 37,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
        },
    ),
    "deberta-v2": ("DebertaV2Config", {**_SIZES, **_DEBERTA}),
    "electra": ("ElectraConfig", {**_SIZES, "embedding_size": 16}),
    "albert": ("AlbertConfig", {**_SIZES, "embedding_size": 16}),
    "xlm-roberta": ("XLMRobertaConfig", _SIZES),
    "mpnet": ("MPNetConfig", _SIZES),
    "modernbert": (
        "ModernBertConfig",
        {
            **_SIZES,
            "local_attention": 16,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 2,
            "sep_token_id": 3,
        },
    ),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": 64,
            "n_embd": 32,
            "n_layer": N_LAYERS,
            "n_head": 4,
            "n_positions": 64,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "initializer_range": 0.2,
        },
    ),
    "qwen2": ("Qwen2Config", {**_SIZES, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", _DECODER),
    "llama": ("LlamaConfig", {**_SIZES, "num_key_value_heads": 2}),
    "gemma": ("GemmaConfig", _DECODER),
    "gemma2": ("Gemma2Config", {**_DECODER, "sliding_window": 16}),
    "gemma3": ("Gemma3TextConfig", {**_DECODER, "sliding_window": 16}),
    "t5": (
        "T5Config",
        {
            "vocab_size": 64,
            "d_model": 32,
            "num_layers": N_LAYERS,
            "num_heads": 4,
            "d_ff": 37,
            "d_kv": 8,
        },
    ),
}
DECODERS = ("gpt2", "qwen2", "qwen3", "llama", "gemma", "gemma2", "gemma3")


def make_tokenizer():
    """Return a tokenizer of words, with special tokens as BERT has them."""
    words = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    plain = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return plain


def save_tokenizer(folder, *, has_types=True, max_length=63):
    """Write the tokenizer of words into a folder."""
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if has_types else [])]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=max_length,
        model_input_names=names,
    ).save_pretrained(folder)


def save_network(folder, kind="bert"):
    """Write a tiny network of a kind and its tokenizer into a folder (str)."""
    name, settings = CONFIGS[kind]
    config = getattr(transformers, name)(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
        for parameter in model.parameters():  # no scale of 1 or shift of 0
            parameter.data += 0.02 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    save_tokenizer(folder, has_types=kind in ("bert", "albert", "electra"))
    return str(folder)


def plain_network(folder):
    """Return the network in a folder as transformers makes it, without a decoder."""
    model = transformers.AutoModel.from_pretrained(folder, dtype="float32").eval()
    return model.get_encoder() if model.config.is_encoder_decoder else model


def make_texts(n, seed=0, longest=20):
    """Return texts of 1 to `longest` words, and whether more words are good or bad."""
    generator = torch.Generator().manual_seed(seed)
    texts, labels = [], []
    for i in range(n):
        length = int(torch.randint(1, longest, (1,), generator=generator))
        drawn = torch.randint(len(WORDS), (length,), generator=generator).tolist()
        words = [WORDS[k] for k in drawn if WORDS[k] not in ("good", "bad")]
        words += [("bad", "good")[i % 2]] * (1 + length // 4)
        order = torch.randperm(len(words), generator=generator).tolist()
        texts.append(" ".join(words[k] for k in order))
        labels.append(i % 2)
    return texts, labels
