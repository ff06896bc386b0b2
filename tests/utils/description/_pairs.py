"""Source code of objects that compute other results with another value of ``K``.

Each leaves what is described as ``thing``.
"""

import torch

_LAYER = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
"""

PAIRS = {
    "constant": "def thing(x): return x * K",
    "type of a constant": "thing = [1, 1.0, True][K]",
    "negative zero": "thing = [0.0, -0.0, float('nan')][K]",
    "type of a sequence": "thing = [[1], (1,), {1}, frozenset({1})][K]",
    "order of a dict": "thing = dict([[('a', 1), ('b', 2)], [('b', 2), ('a', 1)]][K])",
    "text and bytes": "thing = ['a', b'a', bytearray(b'a')][K]",
    "lambda": "thing = lambda x: x * K",
    "nested function": """
def thing(x):
    def inner(x):
        return [a * K for a in x]
    return inner(x)
""",
    "default": "def thing(x, by=K): return x * by",
    "keyword default": "def thing(x, *, by=K): return x * by",
    "closure": """
def make(by):
    return lambda x: x * by
thing = make(K)
""",
    "closure over a function": """
def make(f):
    return lambda x: f(x)
thing = make(lambda x: x * K)
""",
    "global": "by = K\ndef thing(x): return x * by",
    "global function": "def by(x): return K * x\ndef thing(x): return by(x)",
    "global of a global": """
by = K
def inner(x): return x * by
def middle(x): return inner(x)
def thing(x): return middle(x)
""",
    "global in a nested function": """
by = K
def thing(x): return [(lambda: by * a)() for a in x]
""",
    "mutual recursion": """
def even(n): return K if n == 0 else odd(n - 1)
def odd(n): return 0 if n == 0 else even(n - 1)
thing = odd
""",
    "module in a global": """
import types
helpers = types.ModuleType("helpers")
exec("def scale(x): return x * K", {**vars(helpers), "K": K}, vars(helpers))
helpers.scale.__globals__["K"] = K
def thing(x): return helpers.scale(x)
""",
    "module that is looked through": """
import types
helpers = types.ModuleType("helpers")
helpers.scale = K
def thing(x): return x * getattr(helpers, "".join(["sc", "ale"]))
""",
    "import in a function": """
import sys, types
sys.modules["pairs_of_helpers"] = types.ModuleType("pairs_of_helpers")
sys.modules["pairs_of_helpers"].by = K
def thing(x):
    import pairs_of_helpers as helpers
    return x * helpers.by
""",
    "import from, in a function": """
import sys, types
sys.modules["pairs_of_helpers"] = types.ModuleType("pairs_of_helpers")
sys.modules["pairs_of_helpers"].by = K
def thing(x):
    from pairs_of_helpers import by
    return x * by
""",
    "wrapped": """
import functools
def deco(f):
    @functools.wraps(f)
    def wrapper(x):
        return f(x) * K
    return wrapper
@deco
def thing(x): return x
""",
    "cached": """
import functools
@functools.lru_cache
def thing(x): return x * K
""",
    "decorated by a library": """
@torch.no_grad()
def thing(x): return x * K
""",
    "attribute of a function": "def thing(x): return x * thing.by\nthing.by = K",
    "partial": "import functools, operator\nthing = functools.partial(operator.mul, K)",
    "bound method": """
class Scale:
    def __init__(self, by): self.by = by
    def apply(self, x): return x * self.by
thing = Scale(K).apply
""",
    "callable object": """
class Scale:
    def __call__(self, x): return x * K
thing = Scale()
""",
    "slots": """
class Scale:
    __slots__ = ("by",)
    def __call__(self, x): return x * self.by
thing = Scale(); thing.by = K
""",
    "subclass of a dict": """
class Table(dict): pass
thing = Table(a=K)
""",
    "attribute of a subclass of a list": """
class Steps(list): pass
thing = Steps([1]); thing.by = K
""",
    "method of a subclass of a float": """
class Number(float):
    def __mul__(self, x): return K * x
thing = Number(1)
""",
    "enum": """
import enum
class Kind(enum.Enum):
    A = 1
    B = 2
thing = [Kind.A, Kind.B, 1][K]
""",
    "value of an enum": """
import enum
class Kind(enum.Enum):
    A = K
thing = Kind.A
""",
    "method of an enum": """
import enum
class Kind(enum.Enum):
    A = 1
    def scale(self): return K
thing = Kind.A
""",
    "dataclass": """
from dataclasses import dataclass
@dataclass
class Scale:
    by: float = 1.0
    def __call__(self, x): return x * self.by
thing = Scale(K)
""",
    "default of a dataclass": """
from dataclasses import dataclass
@dataclass
class Scale:
    by: float = K
thing = Scale
""",
    "named tuple": """
from collections import namedtuple
thing = namedtuple("Pair", "a b")(1, K)
""",
    "metaclass": """
class Meta(type):
    def __call__(cls, x): return x * K
class thing(metaclass=Meta): pass
""",
    "descriptor": """
class Descriptor:
    def __get__(self, obj, cls): return K
class Scale:
    by = Descriptor()
thing = Scale()
""",
    "deque": "from collections import deque\nthing = deque([1], maxlen=K + 1)",
    "pattern": "import re\nthing = re.compile('a', flags=[0, re.I, re.M][K])",
    "path": "from pathlib import Path\nthing = Path(str(K))",
    "array": "import numpy as np\nthing = np.array([1, K])",
    "dtype of an array": "import numpy as np\nthing = np.zeros(2, ['i4', 'f4'][K])",
    "array of objects": "import numpy as np\nthing = np.array([None, K], dtype=object)",
    "random state": "import numpy as np\nthing = np.random.RandomState(K)",
    "random generator": "import numpy as np\nthing = np.random.default_rng(K)",
    "random of Python": "import random\nthing = random.Random(K)",
    "generator of torch": "thing = torch.Generator().manual_seed(K)",
    "tensor": "thing = torch.tensor([1.0, K])",
    "dtype of a tensor": "thing = torch.zeros(2).to([torch.half, torch.bfloat16][K])",
    "shape of a tensor": "thing = torch.zeros([(2, 3), (3, 2)][K])",
    "sparse tensor": "thing = torch.tensor([[0, 1.0 + K]]).to_sparse()",
    "layout of a tensor": """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dense = torch.tensor([[0, 1.0]])
    thing = [dense, dense.to_sparse(), dense.to_sparse_csr()][K]
""",
    "quantised tensor": """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    thing = torch.quantize_per_tensor(torch.ones(2), 0.1 * (K + 1), 0, torch.quint8)
""",
    "function of torch": "thing = [torch.relu, torch.tanh, F.relu, F.gelu][K]",
    "operator of torch": "thing = [torch.ops.aten.relu, torch.ops.aten.tanh][K]",
    "ufunc": "import numpy as np\nthing = [np.add, np.multiply][K]",
    "type": "thing = [int, float, nn.ReLU, nn.GELU][K]",
    "picture": """
from PIL import Image
thing = Image.new("RGB", (2, 2), (K, 0, 0))
""",
    "layer": "thing = [nn.ReLU(), nn.GELU(), nn.SiLU()][K]",
    "setting of a layer": "thing = nn.LeakyReLU(K)",
    "weights of a layer": "thing = nn.Linear(2, 2); nn.init.constant_(thing.weight, K)",
    "plain attribute of a library's layer": "thing = nn.ReLU(); thing.by = K",
    "buffer": "thing = nn.ReLU(); thing.register_buffer('by', torch.tensor(K))",
    "forward": """
class Scale(nn.Module):
    def forward(self, x): return x * K
thing = Scale()
""",
    "helper of forward": """
def scale(x): return x * K
class Scale(nn.Module):
    def forward(self, x): return scale(x)
thing = Scale()
""",
    "class attribute": """
class Scale(nn.Module):
    by = K
    def forward(self, x): return x * self.by
thing = Scale()
""",
    "property": """
class Scale(nn.Module):
    @property
    def by(self): return K
    def forward(self, x): return x * self.by
thing = Scale()
""",
    "static method": """
class Scale(nn.Module):
    @staticmethod
    def by(x): return x * K
    def forward(self, x): return self.by(x)
thing = Scale()
""",
    "decorated forward": """
import functools
def deco(forward):
    @functools.wraps(forward)
    def wrapper(self, x): return forward(self, x) * K
    return wrapper
class Scale(nn.Module):
    @deco
    def forward(self, x): return x
thing = Scale()
""",
    "forward of a base class": """
class Base(nn.Module):
    def forward(self, x): return x * K
class Scale(Base): pass
thing = Scale()
""",
    "override of a library's method": """
class Scale(nn.ReLU):
    def forward(self, x): return super().forward(x) * K
thing = Scale()
""",
    "forward of the object": """
import types
thing = nn.ReLU()
thing.forward = types.MethodType(lambda self, x: x * K, thing)
""",
    "plain function as forward of the object": """
thing = nn.ReLU(); thing.forward = lambda x: x * K
""",
    "hook": "thing = nn.ReLU(); thing.register_forward_hook(lambda m, i, o: K * o)",
    "hook before": """
thing = nn.ReLU(); thing.register_forward_pre_hook(lambda m, i: (K * i[0],))
""",
    "keywords of a hook": """
thing = nn.ReLU()
thing.register_forward_hook(lambda *a: None, with_kwargs=bool(K))
""",
    "order of hooks": """
hooks = [lambda m, i, o: o + 1, lambda m, i, o: o * 2]
thing = nn.ReLU()
for hook in hooks[:: 1 - 2 * K]: thing.register_forward_hook(hook)
""",
    "parametrisation": """
class Scaled(nn.Module):
    def forward(self, w): return w * K
thing = nn.Linear(2, 2)
nn.utils.parametrize.register_parametrization(thing, "weight", Scaled())
""",
    "weight norm": """
thing = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2), dim=K)
""",
    "pruned": """
from torch.nn.utils import prune
thing = nn.Linear(4, 4)
prune.l1_unstructured(thing, "weight", amount=K + 1)
""",
    "modules in a list": """
class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = [nn.Threshold(0, K)]
    def forward(self, x): return self.steps[0](x)
thing = Scale()
""",
    "modules in a dict": """
class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = {"a": (nn.Threshold(0, K),)}
    def forward(self, x): return self.steps["a"][0](x)
thing = Scale()
""",
    "object in an attribute": """
class By:
    def __init__(self, value): self.value = value
class Scale(nn.Module):
    def forward(self, x): return x * self.by.value
thing = Scale(); thing.by = By(K)
""",
    "method of an object in an attribute": """
class By:
    def value(self): return K
class Scale(nn.Module):
    def forward(self, x): return x * self.by.value()
thing = Scale(); thing.by = By()
""",
    "module that is aliased": """
import types
helpers = types.ModuleType("helpers"); helpers.by = K
class Scale(nn.Module):
    def forward(self, x): return x * self.helpers.by
thing = Scale(); thing.helpers = helpers
""",
    "autograd function": """
class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * K
class Scale(nn.Module):
    def forward(self, x): return Function.apply(x)
thing = Scale()
""",
    "traced graph": """
from torch import fx
class Scale(nn.Module):
    def forward(self, x): return x * K
thing = fx.symbolic_trace(Scale())
""",
    "script": """
class Scale(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by
    def forward(self, x): return x * self.by
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    thing = torch.jit.trace(Scale(K), torch.ones(2))
""",
    "class that refers to itself": """
class Node:
    by = K
Node.other = Node
thing = Node(); thing.me = [thing]
""",
    "augmentation": """
from torchvision.transforms import v2
thing = v2.Compose([v2.RandomHorizontalFlip(), v2.Lambda(lambda x: x * K)])
""",
    "schedule": """
import functools
from torch.optim.lr_scheduler import LambdaLR
thing = functools.partial(LambdaLR, lr_lambda=lambda epoch: K**epoch)
""",
    "scorer": """
from sklearn.metrics import fbeta_score, make_scorer
thing = make_scorer(fbeta_score, beta=K + 1)
""",
}


def build(name, k):
    """Run source code in a new namespace; return what is described."""
    space = {"K": k, "__name__": "pairs"}
    with torch.random.fork_rng():
        exec(_LAYER + PAIRS[name], space)
    return space["thing"]
