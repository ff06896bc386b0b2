"""Compare ways to compute the training steps of a suffix on one thread of the CPU.

A step is the forward and the backward pass and AdamW, for 32 samples. "channels last"
is what the package does, "channels first" has all kernels and activations the other
way round, and "best of each stage" adds up the faster of the two, stage by stage, as if
changes of layout cost nothing. "compiled" is `torch.compile`, with the seconds that it
takes for the first two steps, and the number of steps after which that has paid off.
"difference" is that of the gradients, relative to their norm.

A second table has the time to join a batch of stored activations: from rows in memory,
and from one array that is mapped from a file.

Times are the least CPU time of many repetitions; the ways take turns.
"""

import copy
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from common import parser, print_table
from torch import fx, nn

from sktransfer.backbones import load_backbone

BATCH, N_CLASSES = 32, 8
CASES = [
    ("efficientnet_lite0", "default", 64, -3),
    ("efficientnet_lite0", "default", 112, -3),
    ("timm/resnet18", None, 112, -2),
    ("timm/vit_tiny_patch16_224", None, 112, -3),
]


def cpu_seconds():
    """Return the CPU time of this process and of those that it started."""
    return sum(os.times()[:4])


class Suffix(nn.Module):
    """The last stages of a network, a pool and a head."""

    def __init__(self, sections, shape):
        super().__init__()
        parts = [fx.GraphModule(section, section.graph) for section in sections]
        self.stages = nn.ModuleList(copy.deepcopy(parts))
        channels = shape[0] if len(shape) == 3 else shape[-1]
        self.head = nn.Linear(channels, N_CLASSES)

    def forward(self, z):
        for stage in self.stages:
            z = stage(z)
        if z.ndim > 2:
            z = z.mean((2, 3) if z.ndim == 4 else 1)
        return self.head(z)


def laid_out(module, z, memory_format):
    """Return copies of a module and of activations with a layout of maps in memory."""
    module = copy.deepcopy(module)
    if z.ndim == 4:
        module = module.to(memory_format=memory_format)
        z = z.to(memory_format=memory_format)
    return module, z


class Step:
    """A training step of a suffix on fixed activations."""

    def __init__(self, module, z, compiled=False):
        torch.manual_seed(0)
        self.module, self.z = module.train(), z
        self.y = torch.randint(N_CLASSES, (BATCH,))
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)
        self.run = torch.compile(module) if compiled else module

    def __call__(self):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.run(self.z), self.y)
        loss.backward()
        self.optimizer.step()

    def gradients(self):
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        return torch.cat([p.grad.flatten() for p in parameters])


def stage_seconds(suffix, z, memory_format, repeats):
    """Return the least seconds of the passes of each stage (n_stages,)."""
    suffix, z = laid_out(suffix, z, memory_format)
    found = []
    for stage in suffix.train().stages:
        inputs = z.detach().requires_grad_()
        best = float("inf")
        for _ in range(repeats):
            began = time.thread_time()
            result = stage(inputs)
            result.sum().backward()
            best = min(best, time.thread_time() - began)
        found.append(best)
        z = result
    return np.array(found)


def compare(name, weights, size, freeze, repeats):
    """Return a row of the first table, and the shape at the boundary."""
    backbone = load_backbone(name, weights=weights, image_size=size)
    start = backbone.boundary(freeze)
    names = backbone.stage_names
    ends = [start, *names[names.index(start) + 1 :]]
    sections = [backbone.section(*step) for step in pairwise(ends)]
    shape = backbone.activation_shape(start)
    suffix = Suffix(sections, backbone.activation_shape(ends[-1]))
    z = torch.randn(BATCH, *shape)
    last, first = torch.channels_last, torch.contiguous_format
    steps = {
        "channels last": Step(*laid_out(suffix, z, last)),
        "channels first": Step(*laid_out(suffix, z, first)),
        "compiled": Step(*laid_out(suffix, z, last), compiled=True),
    }
    began = cpu_seconds()
    steps["compiled"](), steps["compiled"]()
    to_compile = cpu_seconds() - began
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(repeats):
        for way, step in steps.items():
            began = time.process_time()
            step()
            seconds[way] = min(seconds[way], time.process_time() - began)
    # From equal statistics of BatchNorm, as each step updates them.
    ours, compiled = (steps[way].gradients() for way in ("channels last", "compiled"))
    each = [stage_seconds(suffix, z, layout, repeats) for layout in (last, first)]
    gain = seconds["channels last"] - seconds["compiled"]
    return shape, {
        "network": name,
        "px": size,
        "stages": -freeze,
        **{f"{way}, ms": 1000 * s for way, s in seconds.items()},
        "best of each stage": np.minimum(*each).sum() / each[0].sum(),
        "to compile, s": to_compile,
        "pays after steps": to_compile / gain if gain > 0 else np.inf,
        "difference": float((ours - compiled).norm() / ours.norm()),
    }


def join_seconds(shape, repeats):
    """Return the least ms to join a batch of rows, and of a mapped array."""
    rng, n = np.random.default_rng(0), 512
    rows = [rng.standard_normal(shape).astype(np.float16) for _ in range(n)]
    path = Path(tempfile.mkdtemp()) / "rows.npy"
    np.save(path, np.stack(rows))
    mapped = np.load(path, mmap_mode="r")
    ways = {
        "rows, ms": lambda chosen: np.stack([rows[i] for i in chosen]),
        "mapped array, ms": lambda chosen: mapped[chosen],
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        chosen = rng.permutation(n)[:BATCH]
        for way, join in ways.items():
            began = time.process_time()
            torch.from_numpy(join(chosen)).float()
            best[way] = min(best[way], time.process_time() - began)
    return {way: 1000 * seconds for way, seconds in best.items()}


def main():
    options = parser(__doc__, repeats=20, n_cases=len(CASES)).parse_args()
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    rows, joined = [], []
    for case in CASES[: options.n_cases]:
        shape, row = compare(*case, options.repeats)
        rows.append(row)
        times = join_seconds(shape, options.repeats)
        share = times["rows, ms"] / row["channels last, ms"]
        place = {"network": case[0], "px": case[2], "shape": str(shape)}
        joined.append({**place, **times, "share of a step": share})
        print(row, joined[-1], flush=True)
    print_table(rows)
    print_table(joined)


if __name__ == "__main__":
    main()
