"""The module that pools activations, as the parameter `pooling` asks for it."""

from sktransfer.activations import Pool, check_pooling
from sktransfer.backbones import Backbone
from sktransfer.training import Pooling


def make_pool(backbone: Backbone, boundary: str, pooling: Pooling) -> Pool:
    """Make the module that pools the activations at a boundary."""
    own = backbone.own_pooling
    kind, normalize = own if pooling.kind == "auto" else (pooling.kind, False)
    shape = backbone.activation_shape(boundary)
    input_shape = backbone.preprocessing.input_shape
    check_pooling(kind, shape, input_shape, boundary)
    return Pool(kind, pooling.grid, shape, input_shape, normalize)
