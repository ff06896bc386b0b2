"""
Letters in new voices
=====================

A network that was pretrained on speech hears what is said, whoever says it. Here, it
learns letters from a few people, and is asked about others: how many voices must it
have heard, and does it still understand them in noise?

The recordings are those of KLettres, a game for children that learn to read: the
letters of many alphabets, each by another voice. Debian's package ``klettres-data`` has
them. Where it is not installed, the example makes words of two vowels, in synthetic
voices. Nothing is downloaded: ``speech_embedding``, the network, is a part of this
package, and ``sktransfer[audio]`` installs what reads recordings.
"""

# %%
# The recordings
# --------------
#
# Languages are those of which all letters from A to Z were recorded. Letters are those
# with a name that says their sound, since the Romans: the vowels, and the consonants
# that follow an "e" in it, as in "ef" or "effe". Most languages still call them so, and
# English only the consonants: a new voice speaks a new language, too. There is one
# recording of each letter, and the silence before and after it is cut off.

from pathlib import Path
from string import ascii_uppercase
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedFeatureExtractor
from sktransfer.inputs import Waveform

KLETTRES = Path("/usr/share/klettres")  # Debian's klettres-data
LETTERS = "AEIOUFLMNRS"


def without_silence(values, rate):
    """Cut off what is before and after the first and the last loud 20 ms."""
    n = rate // 50
    energy = np.convolve(values**2, np.ones(n), mode="valid")
    loud = np.flatnonzero(energy > 0.01 * energy.max())
    return Waveform(values[loud[0] : loud[-1] + n], rate)


def recorded_letters():
    """Yield the name, the voice and the waveform of each recording of KLettres."""
    for contents in sorted(KLETTRES.glob("*/sounds.xml")):
        sounds = ElementTree.parse(contents).iterfind(".//alphabet/sound")
        paths = {sound.get("name"): KLETTRES / sound.get("file") for sound in sounds}
        if not all(name in paths and paths[name].is_file() for name in ascii_uppercase):
            continue
        for name in LETTERS:
            values, rate = soundfile.read(paths[name], dtype="float32", always_2d=True)
            yield name, contents.parent.name, without_silence(values.mean(axis=1), rate)


# %%
# Without the recordings, words of two vowels take their place. A vowel is the harmonics
# of a pitch, which are loudest around its formants; a voice has a pitch, a vocal tract
# of some length, which scales the formants, and a speed. The words differ in the order
# of their vowels, and real speech is harder.

FORMANTS = {  # in Hz, of men (Peterson and Barney, 1952)
    "A": (730, 1090, 2440),
    "I": (270, 2290, 3010),
    "U": (300, 870, 2240),
}


def synthetic_words(n_voices=11, rate=16_000):
    """Yield the name, the voice and the waveform of words of two vowels."""
    rng = np.random.default_rng(0)
    for voice in range(n_voices):
        pitch, scale, seconds = rng.uniform([90, 0.85, 0.35], [260, 1.2, 0.6])
        time = np.linspace(0, 1, int(seconds * rate))
        tone = pitch * (1.1 - 0.2 * time)  # falls
        harmonics = np.arange(1, int(4000 / pitch))[:, None]
        for name in ("AI", "IA", "AU", "UA", "IU", "UI"):
            gain = 0.01
            for first, last in zip(*map(FORMANTS.get, name), strict=True):
                formant = scale * np.interp(time, [0.3, 0.7], [first, last])
                gain = gain + np.exp(-(((harmonics * tone - formant) / 120) ** 2))
            phase = 2 * np.pi * np.cumsum(tone) / rate
            values = np.sum(gain * np.sin(harmonics * phase) / harmonics, axis=0)
            yield name, f"voice {voice}", Waveform(values.astype("float32"), rate)


samples = recorded_letters() if KLETTRES.is_dir() else synthetic_words()
names, voices, waveforms = map(list, zip(*samples, strict=True))
names, voices = np.array(names), np.array(voices)
print(pd.crosstab(voices, names, rownames=["voice"], colnames=["name"]))

# %%
# Two ways to describe a recording
# --------------------------------
#
# The network begins with a log-mel spectrum, :class:`~sktransfer.inputs.LogMel`: the
# power in each band of frequencies over time. Its mean and deviation over time are
# plain features, which depend on the voice as much as on the letter. The network turns
# the same spectrum into an embedding. Either describes a recording by some numbers,
# once for all that follows.

extractor = PretrainedFeatureExtractor("speech_embedding").fit(waveforms)
preprocessing = extractor.preprocessing_
print(preprocessing.front_end)


def log_mel_statistics(waveforms):
    """Return the mean and the deviation of each band."""
    spectra = [preprocessing.prepare(waveform)["hidden"] for waveform in waveforms]
    return np.array([np.r_[s.mean(axis=0), s.std(axis=0)] for s in spectra])


ways = {"network": extractor.transform, "log-mel statistics": log_mel_statistics}
quiet = {name: describe(waveforms) for name, describe in ways.items()}
print({name: features.shape for name, features in quiet.items()})

# %%
# How many voices must be heard?
# ------------------------------
#
# A linear model learns from some people and is tested on another, for each of them. Had
# it heard the voice of the test, the accuracy would look better than it is; in a
# cross-validation, scikit-learn's ``LeaveOneGroupOut`` and ``GroupKFold`` keep voices
# apart.

model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
PEOPLE = np.unique(voices)


def accuracies(features, asked, n_voices):
    """Return the accuracy on each voice, after `n_voices` others were heard.

    `asked` are the features of the same recordings that the model is tested on.
    """
    found = []
    for seed, person in enumerate(PEOPLE):
        others = PEOPLE[PEOPLE != person]
        heard = np.random.default_rng(seed).permutation(others)[:n_voices]
        train, test = np.isin(voices, heard), voices == person
        model.fit(features[train], names[train])
        found.append(model.score(asked[test], names[test]))
    return np.array(found)


SIZES = [1, 2, 5, 10]
by_voices = {
    way: np.array([accuracies(features, features, n) for n in SIZES])
    for way, features in quiet.items()
}
table = pd.DataFrame({way: a.mean(axis=1) for way, a in by_voices.items()}, SIZES)
print(table.round(3))

# %%
# Of the recordings, the network's features recognise more letters than the statistics
# of the spectrum do, and more of them with each voice. Ten voices, with ten recordings
# of each letter, are still few.
#
# In noise
# --------
#
# White noise is a shift to another domain, which the linear models have not seen: at
# 0 dB it is as loud as the voice.


def with_noise(waveform, decibels, seed=0):
    values, rate = waveform
    level = np.sqrt(np.mean(values**2)) * 10 ** (-decibels / 20)
    noise = np.random.default_rng(seed).normal(scale=level, size=len(values))
    return Waveform((values + noise).astype("float32"), rate)


RATIOS = [20, 10, 0]
by_noise = {way: [] for way in ways}
for ratio in RATIOS:
    noisy = [with_noise(waveform, ratio, i) for i, waveform in enumerate(waveforms)]
    for way, describe in ways.items():
        by_noise[way].append(accuracies(quiet[way], describe(noisy), SIZES[-1]))
in_noise = pd.DataFrame(
    {way: np.mean(a, axis=1) for way, a in by_noise.items()}, RATIOS
)
print(in_noise.round(3))

# %%
# :class:`~sktransfer.adaptation.DomainAdaptedClassifier` adapts a model to noisy
# recordings without labels. :doc:`/user_guide/audio` shows how, and what it gains.

figure, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
pictures = {
    f'"{names[0]}"': waveforms[0],
    f'"{names[0]}" in noise of 0 dB': with_noise(waveforms[0], 0),
}
for ax, (title, waveform) in zip(axes[0], pictures.items(), strict=True):
    spectrum = preprocessing.prepare(waveform)["hidden"]  # (frames, bands)
    seconds = len(spectrum) * preprocessing.front_end.hop / preprocessing.sampling_rate
    ax.imshow(spectrum.T, origin="lower", aspect="auto", extent=(0, seconds, 0, 32))
    ax.set(title=title, xlabel="Time in s", ylabel="Band of frequencies")
for way, marker in zip(ways, "os", strict=True):
    for ax, x, found in zip(
        axes[1], (SIZES, RATIOS), (by_voices[way], by_noise[way]), strict=True
    ):
        error = np.std(found, axis=1, ddof=1) / np.sqrt(len(PEOPLE))
        ax.errorbar(x, np.mean(found, axis=1), error, marker=marker, label=way)
for ax in axes[1]:
    ax.axhline(1 / len(np.unique(names)), color="gray", linestyle=":", label="chance")
    ax.set(ylim=(0, 1), ylabel="Accuracy on new voices")
axes[1, 0].set(title="Quiet", xlabel="Voices heard in training", xticks=SIZES)
axes[1, 1].set(title="In noise", xlabel="Voice to noise in dB", xticks=RATIOS)
axes[1, 1].invert_xaxis()
axes[1, 1].legend(loc="best", fontsize="small")
figure.savefig("letters_in_new_voices.png", dpi=100)
