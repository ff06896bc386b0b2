"""Stages of a network: which boundaries they end at, with one name in both modes."""

from dataclasses import dataclass, replace

from sktransfer.backbones._trace import Trace

__all__ = [
    "FEATURES",
    "INPUT",
    "OUTPUT",
    "Anatomy",
    "Stage",
    "declared_anatomy",
    "find_anatomies",
]

INPUT, FEATURES, OUTPUT = "input", "features", "output"
_RESERVED = {name: f"{name}_" for name in (INPUT, FEATURES, OUTPUT)}
# A network is cut finer until it has this many stages of several layers each.
_ENOUGH_STAGES = 4
_CLASSIFIER_NAMES = frozenset(
    "fc classifier head heads head_dist head_drop last_linear logits output".split()
)


@dataclass(frozen=True)
class Stage:
    """One stage of a backbone.

    Attributes
    ----------
    name : str
        Name of the submodule that ends the stage, or ``"stem"``.
    blocks : tuple of str
        Names of the boundaries inside the stage, in order.
    end : int or None
        Index of the stage's last node in the traced graph; None is the output.
    """

    name: str
    blocks: tuple
    end: int


@dataclass(frozen=True)
class _Part:
    """A run of nodes (start, end] named after the submodule that ends it."""

    name: str
    start: int
    end: int
    call: object  # None if no single call made it


def _find_classifier(trace, module, names=None):
    """Return the index of the first node of the network's own classifier, or None.

    Where the provider does not name it, it is the last layer with weights, if that is
    called as such layers usually are (fc, classifier, head, …).
    """
    paths = _weighted_nodes(trace, module)
    if not paths:
        return None
    if names is None:
        last = paths[max(paths)]
        layer = module.get_submodule(last)
        classifies = hasattr(layer, "out_features") or hasattr(layer, "out_channels")
        named = set(last.split(".")) & _CLASSIFIER_NAMES
        names = [last] if classifies and named else []
    nodes = [i for i, path in paths.items() if path in names]
    return min(nodes, default=None)


def _weighted_nodes(trace, module):
    """Map node index to path for every leaf with a weight matrix or kernel (dict)."""
    return {
        i: node.target
        for i, node in enumerate(trace.nodes)
        if node.op == "call_module"
        and any(p.ndim >= 2 for p in module.get_submodule(node.target).parameters())
    }


def _last_boundary(trace, valid, before=None):
    """Return the last valid boundary before a node (by default, before the output)."""
    before = len(trace.nodes) - 1 if before is None else before
    return max(i for i in valid if i < before)


def _find_stages(trace, module, valid, limit):
    """Group the eval graph into stages (list of Stage).

    ``valid`` are the boundaries that exist in train mode as well, and ``limit`` is the
    one that the stages must not go beyond.
    """
    weighted = set(_weighted_nodes(trace, module))
    cut = _Cutter(trace, valid, weighted, limit)
    parts = cut.cover(trace.calls[0], -1)
    while len(cut.composite(parts)) < _ENOUGH_STAGES:
        finer = cut.expand_largest(parts, module)
        if finer is None:
            break
        parts = finer
    return cut.stages(parts)


class _Cutter:
    """The tree of calls of one network, cut at its boundaries."""

    def __init__(self, trace, valid, weighted, limit):
        self.trace = trace
        self.valid = valid
        self.weighted = weighted
        self.limit = limit

    def cover(self, call, start):
        """Parts of a call: those children that end at a boundary, in order."""
        parts = []
        for child in call.children:
            if child.first > self.limit:
                break
            if child.last > self.limit:
                inner = self.cover(child, start)
            elif child.last in self.valid and child.path in self.trace.ends:
                inner = [_Part(child.path, start, child.last, child)]
            else:
                continue
            parts += inner
            start = parts[-1].end if parts else start
        end = min(call.last, self.limit)
        if call.path and call.last in self.valid and parts and parts[-1].end < end:
            parts.append(_Part(call.path, parts[-1].end, end, None))
        return parts

    def inner(self, part):
        """Parts inside a part, going down until they make more than one stage."""
        if part.call is None or not part.call.children:
            return [part]
        parts = self.cover(part.call, part.start)
        if len(self.group(parts)) > 1:
            return parts
        for i, child in enumerate(parts):
            finer = self.inner(child)
            if len(finer) > 1:
                return [*parts[:i], *finer, *parts[i + 1 :]]
        return parts if len(parts) > 1 else [part]

    def weights_in(self, part):
        return [i for i in self.weighted if part.start < i <= part.end]

    def composite(self, parts):
        return [p for p in parts if self.is_composite(p)]

    def is_composite(self, part):
        has_children = part.call is None or bool(part.call.children)
        return has_children and bool(self.weights_in(part))

    def expand_largest(self, parts, module):
        """Replace the largest part by its parts, if they make several stages."""
        if not self.composite(parts):
            return None
        largest = max(self.composite(parts), key=lambda p: self.size(p, module))
        finer = self.inner(largest)
        if len(self.group(finer)) < 2:
            return None
        at = parts.index(largest)
        return [*parts[:at], *finer, *parts[at + 1 :]]

    def size(self, part, module):
        paths = {self.trace.nodes[i].target for i in self.weights_in(part)}
        layers = map(module.get_submodule, paths)
        return sum(p.numel() for layer in layers for p in layer.parameters())

    def group(self, parts):
        """Join layers into groups: each is one composite part, or layers of one size.

        Layers in front of the first composite part are the stem. A layer without a
        weight matrix (activation, norm, pooling) belongs to the group before it.
        """
        groups, open_shape, seen = [], None, False
        composites = len(self.composite(parts))
        for part in parts:
            is_composite = self.is_composite(part)
            composites -= is_composite
            if not groups:
                starts = True
            elif is_composite:
                starts = any(map(self.weights_in, groups[-1]))
            elif not self.weights_in(part):
                starts = False
            elif composites and not seen:
                starts = False  # still in the stem
            else:
                starts = self.spatial(part.start) != open_shape
            if starts:
                groups.append([])
                open_shape = None
            groups[-1].append(part)
            seen = seen or is_composite
            if open_shape is None and not is_composite and self.weights_in(part):
                open_shape = self.spatial(part.end)
        return groups

    def spatial(self, index):
        """Height and width at a boundary; None for vectors, which never match."""
        shape = self.shape(index)
        return shape[1:] if len(shape) == 3 else object()

    def stages(self, parts):
        groups = [g for g in self.group(parts) if any(map(self.weights_in, g))]
        stages = []
        for i, group in enumerate(groups):
            end = group[-1].end if i < len(groups) - 1 else self.last_end(group)
            named = [p for p in group if self.weights_in(p)][-1]
            stem = not stages and len(groups) > 1 and not self.composite(group)
            name = "stem" if stem and len(group) > 1 else named.name
            blocks = tuple(n for n in self.blocks(group, end) if n != name)
            stages.append(Stage(name, blocks, end))
        return stages

    def last_end(self, group):
        """End of the last stage: its weights, and what keeps the shape after them."""
        weighted = [p for p in group if self.weights_in(p)]
        end = weighted[-1].end
        shape = self.shape(end)
        for i in sorted(b for b in self.valid if end < b <= self.limit):
            if self.shape(i) != shape:
                break
            end = i
        return end

    def shape(self, boundary):
        node = self.trace.live[boundary][0]
        return self.trace.shapes[self.trace.nodes.index(node)]

    def blocks(self, group, end):
        parts = [inner for part in group for inner in self.inner(part)]
        return tuple(dict.fromkeys(p.name for p in parts if p.end < end))


@dataclass(frozen=True)
class Anatomy:
    """Where the boundaries of a network lie in one of its two graphs.

    Attributes
    ----------
    trace : Trace
    ends : dict of str to (int or None)
        The node that each boundary comes after; None is the output.
    stages : list of Stage
    listed : dict of str to (int or None)
        The part of ``ends`` that is stages and the blocks inside them, in order.
    """

    trace: Trace
    ends: dict
    stages: list
    listed: dict


def declared_anatomy(trace, names, has_final):
    """Return the Anatomy of a network that declares its stages.

    ``has_final`` says whether something comes between the last stage and the output.
    """
    listed = {name: i for i, name in enumerate(names, 1)}
    stages = [Stage(name, (), end) for name, end in listed.items()]
    has_final = has_final or not trace.returns_tensor
    features = len(names) if has_final else None
    ends = {INPUT: -1, **listed, FEATURES: features, OUTPUT: None}
    return Anatomy(trace, ends, stages, listed)


def find_anatomies(traces, module, classifier):
    """Find the boundaries on the eval graph that exist on the train graph, too.

    Takes the traces, and returns the anatomies, by mode: True in train mode. A network
    that returns several tensors has its features at the last boundary, and no stage if
    there is none or if that would drop more than poolers and heads.
    """
    eval_, train = traces[False], traces[True]
    twin = _twin_boundaries(eval_, train)
    first = _find_classifier(eval_, module, classifier)
    limit = _last_boundary(eval_, twin, first)
    stages = _find_stages(eval_, module, twin.keys(), limit)
    stages = [_renamed(s) for s in stages]
    single = eval_.returns_tensor and train.returns_tensor
    if not (single or _ends_with(eval_, module, limit)):
        stages = []
    elif not stages and eval_.returns_tensor:
        stages = [Stage("network", (), None)]
    names = {_RESERVED.get(p, p): i for p, i in eval_.ends.items() if i in twin}
    ends = {INPUT: -1, **names, **{s.name: s.end for s in stages}}
    ends[FEATURES] = None if first is None and eval_.returns_tensor else limit
    ends[OUTPUT] = None
    blocks = [n for s in stages for n in (*s.blocks, s.name)]
    listed = {n: ends[n] for n in blocks}
    ends_in_train = {n: None if e is None else twin[e] for n, e in ends.items()}
    return {
        False: Anatomy(eval_, ends, stages, listed),
        True: Anatomy(train, ends_in_train, stages, listed),
    }


def _ends_with(trace, module, limit):
    """Whether what comes after a boundary only pools and classifies.

    Then no other output is a map that layers with weights make of that one.
    """
    node, _ = trace.live[limit]
    behind = [i for i in _weighted_nodes(trace, module) if i > limit]
    if not all(_is_vector(trace.shapes[i]) for i in behind if i in trace.shapes):
        return False
    index = {node: i for i, node in enumerate(trace.nodes)}
    outputs = [trace.shapes.get(index[n]) for n in trace.output_nodes]
    if node not in trace.output_nodes and not all(map(_is_vector, outputs)):
        return False
    return len(behind) <= 1 or not _is_vector(trace.shapes[index[node]])


def _is_vector(shape):
    return isinstance(shape, tuple) and sum(n > 1 for n in shape) <= 1


def _renamed(stage):
    """Rename a stage called as one of the reserved boundaries."""
    blocks = tuple(_RESERVED.get(name, name) for name in stage.blocks)
    return replace(stage, name=_RESERVED.get(stage.name, stage.name), blocks=blocks)


def _twin_boundaries(eval_, train):
    """Map boundaries of the eval graph to the same ones of the train graph.

    They are the same where the same node lives on: its name and its submodule agree
    as long as the graphs do. Where they differ, ends of submodules tie them together.
    """
    same = len(eval_.nodes) == len(train.nodes) and all(
        (a.op, a.name, a.target) == (b.op, b.name, b.target)
        for a, b in zip(eval_.nodes, train.nodes, strict=True)
    )
    if same:
        return {i: i for i in eval_.live if i in train.live}
    twins = {-1: -1}
    for path, end in eval_.ends.items():
        if end in eval_.live and train.ends.get(path) in train.live:
            twins[end] = train.ends[path]
    return twins
