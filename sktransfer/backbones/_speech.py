"""Networks of the library transformers for sound in stages: embeddings, and each layer.

The layers of these networks take hidden states and a mask alone, so a stage calls its
layer. A state holds ``"hidden"`` of shape (n, t, c), and ``"mask"``, which positions
are no padding (n, t).
"""

from typing import Any

import torch
from torch import nn

from sktransfer.backbones._library import (
    LibraryNetwork,
    check_stages,
    masked_state,
)


class Convolutions(nn.Module):
    """The first stage of wav2vec 2.0 and its kin: from a waveform to vectors.

    A position is valid if all values of the waveform that it depends on are. A network
    that normalizes over time gets samples of one length at a time, without padding.
    """

    def __init__(self, extractor, config):
        super().__init__()
        self.extractor = extractor
        self.steps = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.is_over_time = config.feat_extract_norm == "group"

    def forward(self, state):
        """Return hidden states (n, t, c) of a waveform (n, length), and their mask."""
        values, mask = state["hidden"], state["mask"]
        lengths = mask.sum(1)
        n_frames = n_after(values.shape[1], self.steps)
        valid = n_after(lengths, self.steps)  # (n,)
        is_valid = torch.arange(n_frames, device=mask.device) < valid[:, None]
        if not self.is_over_time:
            hidden = self.extractor(values).transpose(1, 2)
            return masked_state(hidden, is_valid)
        hidden = values.new_zeros(len(values), n_frames, self.extractor_width)
        for length in lengths[valid > 0].unique().tolist():
            rows = lengths == length
            found = self.extractor(values[rows, :length]).transpose(1, 2)
            places = torch.arange(found.shape[1], device=mask.device)
            hidden[rows.nonzero(), places] = found.to(hidden.dtype)
        return masked_state(hidden, is_valid)

    @property
    def extractor_width(self):
        """Number of channels of the result (int)."""
        return self.extractor.conv_layers[-1].out_conv_dim


class PositionEmbeddings(nn.Module):
    """The second stage of wav2vec 2.0 and its kin: projection and positions."""

    def __init__(self, projection, encoder, *, is_normalized):
        super().__init__()
        self.projection = projection
        self.positions = encoder.pos_conv_embed
        self.norm = encoder.layer_norm if is_normalized else nn.Identity()
        self.dropout = encoder.dropout

    def forward(self, state):
        """Return the hidden states before the first layer, and their mask."""
        mask = state["mask"]
        found = self.projection(state["hidden"])
        hidden = found[0] if isinstance(found, tuple) else found
        hidden = hidden.masked_fill(~mask[..., None], 0)
        return masked_state(
            self.dropout(self.norm(hidden + self.positions(hidden))), mask
        )


class FramesOfWhisper(nn.Module):
    """The first stage of Whisper: convolutions over a spectrum, and positions.

    Its layers attend to silence behind a recording, too, as they were trained to.
    """

    def __init__(self, encoder):
        super().__init__()
        self.conv1 = encoder.conv1
        self.conv2 = encoder.conv2
        self.positions = encoder.embed_positions

    def forward(self, state):
        """Return hidden states (n, t / 2, c) of spectra (n, t, bands), and the mask."""
        x = nn.functional.gelu(self.conv1(state["hidden"].transpose(1, 2)))
        x = nn.functional.gelu(self.conv2(x)).transpose(1, 2)
        hidden = x + self.positions.weight
        return {"hidden": hidden, "mask": state["mask"][:, :: self.conv2.stride[0]]}


class PatchesOfSpectrum(nn.Module):
    """The first stage of the audio spectrogram transformer: patches, and two tokens.

    The network pools the two tokens in front of the patches, so these are marked as
    valid, and all else as padding, which is attended to nevertheless.
    """

    def __init__(self, embeddings):
        super().__init__()
        self.embeddings = embeddings

    def forward(self, state):
        """Return the hidden states of tokens and patches (n, t, c), and the mask."""
        hidden = self.embeddings(state["hidden"])
        is_token = torch.arange(hidden.shape[1], device=hidden.device) < 2
        return {"hidden": hidden, "mask": is_token.expand(len(hidden), -1)}


class SpeechLayer(nn.Module):
    """A stage of one layer; the last one includes a normalization, if there is one.

    ``masking`` makes the argument of the layer for padding of a state; None if the
    layer attends to all positions.
    """

    def __init__(self, layer, masking=None, norm=None):
        super().__init__()
        self.layer = layer
        self.masking = masking
        self.norm = norm

    def forward(self, state):
        """Return the hidden states after the layer, and their mask."""
        hidden, mask = state["hidden"], state["mask"]
        given = None if self.masking is None else self.masking(hidden, mask)
        found = self.layer(hidden, attention_mask=given)
        hidden = found[0] if isinstance(found, tuple) else found
        hidden = hidden if self.norm is None else self.norm(hidden)
        if self.masking is None:
            return {"hidden": hidden, "mask": mask}
        return masked_state(hidden, mask)


class AttentionMask:
    """Makes the mask that the attention of a network takes."""

    def __init__(self, config):
        self.config = config

    def __call__(self, hidden, mask):
        """Return the mask for hidden states (n, t, c) and valid positions (n, t)."""
        from transformers.masking_utils import create_bidirectional_mask

        return create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden, attention_mask=mask
        )


class KeyPadding:
    """The mask of a layer of WavLM, which asks it where it is not 1.

    Its answer has the type of the position bias: PyTorch deprecates a boolean mask
    beside it.
    """

    def __init__(self, hidden, mask):
        self.bias = torch.zeros_like(mask, dtype=hidden.dtype)
        self.bias.masked_fill_(~mask, float("-inf"))

    def ne(self, _):
        """Return what is added to the scores of keys (n, t)."""
        return self.bias


def n_after(length: Any, steps: Any) -> Any:
    """Return the number of positions after convolutions without padding.

    Parameters
    ----------
    length : int or Tensor of int
        Number of positions before them.
    steps : sequence of (int, int)
        Size and stride of each.
    """
    for size, stride in steps:
        length = (length - size) // stride + 1
    return length


def staged_speech(model: Any, inputs: dict) -> LibraryNetwork:
    """Return a network of transformers as a `StagedModule` that shares its parameters.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        wav2vec 2.0, HuBERT, WavLM, the encoder of Whisper, or an audio spectrogram
        transformer, without a head.
    inputs : dict of str to Tensor
        Model inputs of at least two samples, to try it with.

    Raises
    ------
    ValueError
        If the stages do not compute what the network does as a whole.
    """
    model = model.eval()
    make, call = _KINDS[model.config.model_type]
    staged = LibraryNetwork(make(model), model).eval()
    with torch.no_grad():
        found = staged(inputs)
        expected = call(model, inputs, staged)
    is_valid = found["mask"]
    check_stages(model, found["hidden"][is_valid], expected[is_valid])
    return staged


def _of_waveforms(model):
    """Return the stages of wav2vec 2.0, HuBERT or WavLM."""
    config, encoder = model.config, model.encoder
    masking = AttentionMask(config)
    if config.model_type == "wavlm":
        masking = KeyPadding
        _share_relative_positions(encoder.layers)
    _use_plain_weights(encoder.pos_conv_embed)
    is_late = config.do_stable_layer_norm
    embeddings = PositionEmbeddings(
        model.feature_projection, encoder, is_normalized=not is_late
    )
    last = encoder.layer_norm if is_late else None
    first = Convolutions(model.feature_extractor, config)
    layers = _layers(encoder.layers, masking, last)
    return {"convolutions": first, "embeddings": embeddings, **layers}


def _of_whisper(encoder):
    layers = _layers(encoder.layers, None, encoder.layer_norm)
    return {"embeddings": FramesOfWhisper(encoder), **layers}


def _of_spectra(model):
    layers = _layers(model.layers, None, model.layernorm)
    return {"embeddings": PatchesOfSpectrum(model.embeddings), **layers}


def _layers(layers, masking, norm):
    """Return a stage per layer, of which the last one has the normalization."""
    last = len(layers) - 1
    return {
        f"layer{i}": SpeechLayer(layer, masking, norm if i == last else None)
        for i, layer in enumerate(layers)
    }


def _use_plain_weights(embedding):
    """Replace the norm and the direction of weights by their product.

    They would be multiplied again at each call.
    """
    conv = embedding.conv
    (size,), (padding,) = conv.kernel_size, conv.padding
    how = {"padding": padding, "groups": conv.groups, "device": "meta"}
    plain = nn.Conv1d(conv.in_channels, conv.out_channels, size, **how)
    plain.weight = nn.Parameter(conv.weight.detach().clone())
    plain.bias = conv.bias
    embedding.conv = plain


def _share_relative_positions(layers):
    """Let every layer of WavLM compute the relative positions of the first one."""
    for layer in layers:
        layer.attention.rel_attn_embed = layers[0].attention.rel_attn_embed


def _call_alone(model, inputs, staged):
    """Return what a network computes of each waveform without its padding."""
    n = n_after(inputs["mask"].shape[1], staged.stages["convolutions"].steps)
    rows = []
    for values, mask in zip(inputs["hidden"], inputs["mask"], strict=True):
        hidden = model(values[mask][None])[0][0]
        rows.append(nn.functional.pad(hidden, (0, 0, 0, n - len(hidden))))
    return torch.stack(rows)


def _call_on_spectra(model, inputs, staged):
    return model(inputs["hidden"])[0]


def _call_whisper(encoder, inputs, staged):
    return encoder(inputs["hidden"].transpose(1, 2))[0]


_KINDS = {
    "wav2vec2": (_of_waveforms, _call_alone),
    "hubert": (_of_waveforms, _call_alone),
    "wavlm": (_of_waveforms, _call_alone),
    "whisper": (_of_whisper, _call_whisper),
    "audio-spectrogram-transformer": (_of_spectra, _call_on_spectra),
}
SPEECH_TYPES = tuple(_KINDS)
