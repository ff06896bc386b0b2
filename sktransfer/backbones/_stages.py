"""Group the layers of a traced network into stages that end at boundaries."""

from dataclasses import dataclass, replace

from sktransfer.backbones._boundaries import is_plain, is_state
from sktransfer.backbones._trace import Trace
from sktransfer.backbones._tracer import Call

INPUT, FEATURES, OUTPUT = "input", "features", "output"
_RESERVED = {name: f"{name}_" for name in (INPUT, FEATURES, OUTPUT)}
# Stages are split until this many consist of several layers.
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
        Index of the stage's last node in the traced graph; None for the output.

    Examples
    --------
    >>> from sktransfer.backbones import load_backbone
    >>> stage = load_backbone("efficientnet_lite0").stages[1]
    >>> stage.name, stage.blocks[-1]
    ('blocks.0', 'blocks.0.0.conv_pw')
    """

    name: str
    blocks: tuple[str, ...]
    end: int | None


@dataclass(frozen=True)
class _Part:
    """Nodes (start, end], named after the submodule that ends them."""

    name: str
    start: int
    end: int
    call: Call | None  # None if it is a part of a call


def _find_classifier(trace, module, names=None) -> int | None:
    """Return the index of the first node of the network's own classifier, or None.

    Unless the provider names it, it is the last layer with weights if that has a usual
    name (fc, classifier, head, …).
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


def _weighted_nodes(trace, module) -> dict[int, str]:
    """Return the paths of layers with a weight matrix or kernel by node index."""
    return {
        i: node.target
        for i, node in enumerate(trace.nodes)
        if node.op == "call_module"
        and any(p.ndim >= 2 for p in module.get_submodule(node.target).parameters())
    }


def _find_stages(trace, module, valid, limit):
    """Return the stages of the eval graph, up to the boundary ``limit``.

    ``valid`` are the boundaries that exist in train mode as well.
    """
    cut = _Cutter(trace, valid, {*_weighted_nodes(trace, module)}, limit)
    parts = cut.cover(trace.calls[0], -1)
    while len(cut.composite(parts)) < _ENOUGH_STAGES:
        finer = cut.expand_largest(parts, module)
        if finer is None:
            break
        parts = finer
    return cut.stages(parts)


class _Cutter:
    """Cuts the tree of calls of one network at its boundaries."""

    def __init__(self, trace, valid, weighted, limit):
        self.trace = trace
        self.valid = valid
        self.weighted = weighted
        self.limit = limit

    def cover(self, call, start):
        """Return the children of a call that end at a boundary, as parts in order."""
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
        """Return the parts inside a part, going down until they make several stages."""
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
        """Replace the largest part by its parts; None if these make one stage."""
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
        """Join parts into groups: one composite part each, or layers of one image size.

        Layers before the first composite part are the stem. A layer without a weight
        matrix (activation, norm, pooling) belongs to the group before it.
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
                starts = False  # before the first composite part
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
        """Return height and width at a boundary; a unique object for vectors."""
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
        """Return the end of the last stage: weights, and layers that keep the shape."""
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
class StagedGraph:
    """Graph of a network in one mode, with its stages and boundaries.

    ``ends`` maps each boundary to the index of the node before it, None for the output;
    ``listed`` holds only the stages and the blocks inside them, in order.
    """

    trace: Trace
    ends: dict[str, int | None]
    stages: list[Stage]
    listed: dict[str, int | None]

    def place(self, boundary: str) -> int:
        """Return the index of the last node before a boundary."""
        end = self.ends[boundary]
        return len(self.trace.nodes) if end is None else end

    def n_stages_before(self, boundary: str) -> int:
        """Return the number of whole stages before a boundary."""
        end = self.place(boundary)
        return sum(self.place(stage.name) <= end for stage in self.stages)

    def multiply_adds(self, start: str, stop: str) -> int:
        """Return the multiply-adds per sample between two boundaries."""
        first, last = self.place(start), self.place(stop)
        counted = self.trace.multiply_adds
        return sum(n for i, n in counted.items() if first < i <= last)


def declared_graph(trace: Trace, names: list[str], has_final: bool) -> StagedGraph:
    """Return the graph and the boundaries of a network that declares its stages.

    ``has_final`` is whether there is a final step between the last stage and the
    output.
    """
    listed: dict[str, int | None] = {name: i for i, name in enumerate(names, 1)}
    stages = [Stage(name, (), end) for name, end in listed.items()]
    has_final = has_final or not trace.returns_tensor
    features = len(names) if has_final else None
    ends = {INPUT: -1, **listed, FEATURES: features, OUTPUT: None}
    return StagedGraph(trace, ends, stages, listed)


def find_staged_graphs(
    traces: dict[bool, Trace], module, classifier
) -> dict[bool, StagedGraph]:
    """Find the boundaries that exist in the graphs of both modes.

    The keys are True for train mode and False for eval mode. The features of a network
    that returns several tensors are at its last boundary. It has no stage if there is
    no boundary, or if layers other than poolers and heads come after it. The same holds
    if it returns something else than floating point numbers of each sample, but then
    no layer may come after it.
    """
    eval_, train = traces[False], traces[True]
    twin = _twin_boundaries(eval_, train)
    first = _find_classifier(eval_, module, classifier)
    before = len(eval_.nodes) - 1 if first is None else first
    limit = max(i for i in twin if i < before)
    stages = _find_stages(eval_, module, twin.keys(), limit)
    stages = [_renamed(s) for s in stages]
    single = eval_.returns_tensor and train.returns_tensor
    ends_in_rows = _is_rows(eval_.returned)
    if not _may_end(eval_, module, limit, single, first is not None or ends_in_rows):
        stages = []
    elif not stages and ends_in_rows:
        stages = [Stage("network", (), None)]
    names = {_RESERVED.get(p, p): i for p, i in eval_.ends.items() if i in twin}
    ends = {INPUT: -1, **names, **{s.name: s.end for s in stages}}
    ends[FEATURES] = None if first is None and ends_in_rows else limit
    ends[OUTPUT] = None
    blocks = [n for s in stages for n in (*s.blocks, s.name)]
    listed = {n: ends[n] for n in blocks}
    ends_in_train = {n: None if e is None else twin[e] for n, e in ends.items()}
    return {
        False: StagedGraph(eval_, ends, stages, listed),
        True: StagedGraph(train, ends_in_train, stages, listed),
    }


def _is_rows(returned) -> bool:
    """Return whether an output for two samples is a tensor of floats of each."""
    return is_state(returned, 2) and is_plain(returned)


def _may_end(trace, module, limit, single, in_features):
    """Return whether the features of a network may be at its last boundary.

    ``single`` is whether it returns one tensor, and ``in_features`` whether these are
    features or come from a classifier.
    """
    if not single:
        return _ends_with(trace, module, limit)
    return in_features or max(_weighted_nodes(trace, module), default=-1) <= limit


def _ends_with(trace, module, limit) -> bool:
    """Return whether only pooling and classification follow a boundary.

    They do if no other output is a map that layers with weights compute from it.
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
    """Rename a stage that has the name of a reserved boundary."""
    blocks = tuple(_RESERVED.get(name, name) for name in stage.blocks)
    return replace(stage, name=_RESERVED.get(stage.name, stage.name), blocks=blocks)


def _twin_boundaries(eval_, train) -> dict[int, int]:
    """Map boundaries of the eval graph to those of the train graph.

    They are the same nodes if the graphs are alike, and otherwise ends of the same
    submodules.
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
