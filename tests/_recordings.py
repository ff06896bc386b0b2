"""Recordings that tests make: tones that rise or fall, of different lengths."""

import wave
from dataclasses import replace

import numpy as np

from sktransfer.activations._store import choose

RATE = 16_000


def make_tone(seconds, *, is_rising=True, rate=RATE, seed=0):
    """Return a tone (t,) whose pitch rises or falls, with a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    low, high = (300, 900) if is_rising else (900, 300)
    start = rng.uniform(0.8, 1.25)
    phase = 2 * np.pi * start * (low + (high - low) * t / (2 * max(seconds, 1e-9))) * t
    noise = rng.normal(scale=0.01, size=len(t))
    return (0.3 * np.sin(phase) + noise).astype(np.float32)


def write_wav(path, values, *, rate=RATE, n_bytes=2):
    """Write values (t,) or (t, channels) as integers of some bytes; return the path."""
    scale = 2 ** (8 * n_bytes - 1)
    whole = np.clip(np.round(values.astype(np.float64) * scale), -scale, scale - 1)
    if n_bytes == 1:
        data = (whole + 128).astype("u1").tobytes()
    else:
        integers = whole.astype("<i4")[..., None].view("u1")[..., :n_bytes]
        data = np.ascontiguousarray(integers).tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if values.ndim == 1 else values.shape[1])
        file.setsampwidth(n_bytes)
        file.setframerate(rate)
        file.writeframes(data)
    return str(path)


def make_recordings(folder, n, *, seed=0):
    """Write `n` files of 0.1 to 1.2 seconds; return paths and whether tones rise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    paths = []
    for i, label in enumerate(labels):
        seconds = rng.uniform(0.1, 1.2)
        tone = make_tone(seconds, is_rising=label == 1, seed=1000 * seed + i)
        paths.append(write_wav(folder / f"{seed}_{i}.wav", tone))
    return paths, labels


def keep_all(measured, n_samples, budget):
    """Choose to store whatever fits: the clock has no say."""
    free = [replace(cost, keep_seconds=0.0) for cost in measured]
    return choose(free, n_samples, budget)
