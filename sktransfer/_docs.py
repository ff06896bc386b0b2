"""Documentation that estimators share."""

__all__ = ["shares_adapted_docs", "shares_docs"]

PARAMETERS = """\
    backbone : str, torch.nn.Module, callable, Backbone or fitted estimator, \
default="efficientnet_lite0"
        See :func:`sktransfer.backbones.load_backbone`. The default's ImageNet weights
        are installed with sktransfer. A fitted estimator gives the network as it
        trained it; scikit-learn clones estimators, so in a search wrap it in
        :class:`sklearn.frozen.FrozenEstimator`.
    weights : str, os.PathLike, mapping or None, default="default"
        ``"default"``; None for random weights; a name of the provider's; the path of
        a checkpoint; or a state dict.
    freeze : int, float or str, default="auto"
        - int: that many leading stages are frozen; negative: all but the last so many;
        - float in (0, 1): this share of the stages;
        - the name of a stage or block: everything up to and including it;
        - ``"all"``: linear probe; ``"none"``: full fine-tuning;
        - ``"auto"``: by the number of samples. Below 100 all stages, below 10,000 the
          early ones (a third), beyond none.
    unfreeze_every : int, default=None
        Gradual unfreezing: only the last stage is trained at first, and one more from
        the top every so many epochs, until `freeze` is reached.
    adapter : {"lora"} or None, default=None
        Train low-rank adapters of the layers above the boundary instead of their
        weights; they are merged afterwards. Needs ``pip install "sktransfer[lora]"``.
    adapter_rank : int, default=8
        Rank of the adapters.
    adapter_alpha : float, default=16.0
        Scale of the adapters, relative to their rank.
    pooling : {"auto", "avg", "max", "avgmax", "cls", "flatten"}, default="auto"
        From the last stage's activation to the head. "auto" is what the network itself
        does in front of its classifier, and "avg" where it has no such part.
    pool_size : int, default=1
        Gives the head a grid of ``pool_size`` x ``pool_size`` pooled cells.
    head : {"linear", "mlp", "cosine"} or torch.nn.Module, default="linear"
        "mlp" has one hidden layer, "cosine" compares directions, for few samples. A
        module maps (n, n_features) to (n, n_outputs).
    head_init : {"probe", "random"}, default="probe"
        What a linear head starts from: the linear probe (LP-FT), or random weights.
        Other heads start from random weights.
    dropout : float, default=0.0
        Share of the features that the head does not see at a time, in training."""

SETTINGS = """\
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
    image_shape : tuple, default=None
        Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
    value_range : "auto" or (low, high), default="auto"
        Values of black and white in arrays, and in images of more than 8 bits. "auto"
        is (0, 1) for floats, (0, 65535) for uint16 and (0, 255) for other integers.
    max_epochs : int, default=10
        Passes over the samples. The probe has none.
    lr : float, default=1e-3
        Highest learning rate of the head (AdamW).
    backbone_lr_ratio : float, default=0.5
        Learning rate of the last stage over the head's.
    layer_decay : float, default=1.0
        Learning rate of each trained stage over that of the stage above it.
    lr_schedule : {"cosine", "one_cycle", "constant", "annealed"} or callable, \
default="cosine"
        "cosine" and "constant" begin with a warm-up of a tenth of the steps; "annealed"
        falls to a sixth, by the schedule of adversarial adaptation. A scheduler class
        of torch, or another callable from an optimiser to a scheduler, is stepped once
        an epoch.
    weight_decay : float, default=0.01
        Decoupled; not of norms and biases.
    l2_sp : float, default=0.0
        Strength of the penalty on the squared distance to the pretrained weights.
    max_grad_norm : float or None, default=1.0
        Gradients are clipped to this norm.
    accumulate_grad_batches : int, default=1
        Batches that make a training step.
    batch_norm : {"eval", "train"}, default="eval"
        Whether BatchNorm in the trained stages keeps the statistics that it came with
        or takes those of the batch. The former does better on few samples.
    ema : float, default=None
        Decay of an exponential moving average of the weights, such as 0.99, that is
        used in the end.
    early_stopping : bool, default=False
        Stop when the validation loss no longer falls, and restore the best weights.
    validation_fraction : float, default=0.1
        Share of the samples that early stopping looks at, unless `fit` gets `X_val`.
    n_iter_no_change : int, default=5
        Epochs to wait for a lower validation loss."""

AUGMENTATION = """\
    augment : {"crop", "crop_flip", "light", "medium", "strong"}, callable or None, \
default=None
        Random views of the images to train on. "crop" is a random crop of 35% to 100%
        of the area, "crop_flip" mirrors besides; "light", "medium" and "strong" change
        place, colour and more of it in this order; a callable takes a PIL image and
        returns one, as torchvision's transforms do. The probe sees the images as they
        are, unless there are `n_views`; so with ``freeze="all"``, which "auto" is below
        100 samples, only `n_views` makes a difference.
    n_views : int, default=None
        How many fixed views of each image are drawn; their activations are stored. By
        default each epoch draws new ones, which have to go through the frozen stages.
    augment_activations : bool or collection of str, default=False
        Which of "flip", "shift", "crop" and "drop" stored activations go through in
        training, which costs next to nothing; True is all.
    mixup, cutmix : float, default=0.0
        Alpha of the Beta distribution that activations at the boundary, or images if
        nothing is frozen, are mixed or cut together by. With both, a batch takes one.
    tta : int, default=None
        Test-time augmentation: predict by the mean score of the image and so many
        random views of it, drawn by `augment`.
    batch_size : int or "auto", default="auto"
        Samples a training batch; "auto" is 32.
    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one.
    callbacks : list of skorch callbacks or (name, callback), default=None
        Added to those of the training, see :mod:`skorch.callbacks`. The probe has none.
    memory : str, os.PathLike, joblib.Memory or None, default=None
        Folder in which activations are kept for other processes and later runs. They
        are kept in this process's memory in any case; see the user guide.
    checkpoint : str or os.PathLike, default=None
        Folder in which the state of the training is kept, epoch by epoch, until it is
        over. A killed `fit` on the same data with the same parameters goes on there.
    warm_start : bool, default=False
        Whether another `fit` goes on training the network as it is.
    precision : {"auto", "float32"}, default="auto"
        What frozen stages are computed in. "float32" is the network as it is; "auto"
        folds BatchNorm into convolutions and takes bfloat16 where the hardware gains by
        it and the features stay within 5%; see the user guide.
    random_state : int, RandomState instance or None, default=None
        Seeds the order of the samples, dropout and random weights.
    verbose : int, default=0
        Shows a progress bar and prints a line an epoch."""

ATTRIBUTES = """\
    backbone_ : Backbone
        The network in stages, as trained.
    boundary_ : str
        Name of the stage or block up to which the network is frozen.
    freeze_depth_ : int
        How many whole stages are frozen.
    n_trainable_parameters_ : int
        Of the trained stages or their adapters, and the head.
    preprocessing_ : ImagePreprocessing or VectorPreprocessing
        What the weights were trained with, and what samples go through.
    value_range_ : tuple or None
        The value range that was found in X.
    model_card_ : ModelCard
        Where the backbone comes from, its license, and what was trained on top.
    feature_drift_ : float
        How far training moved the features of a few samples, from 0 to 1: one less
        their linear centred kernel alignment. Of the first training, gone once another
        one goes on.
    forgetting_ : float
        Share of crops of two photographs that the network with the classifier that it
        was pretrained with labels otherwise now; what is left of that task is one less
        this. Not there where the weights came without one.
    module_ : torch.nn.Module
        From model inputs to scores, in float32: prefix, suffix, pool and head.
    net_ : skorch.NeuralNet
        What trained the suffix and the head, from activations to scores.
    history_ : pandas.DataFrame
        One row an epoch; one row for a probe.
    pass_report_ : pandas.DataFrame
        What `fit` took from the store, computed and kept.
    n_features_in_ : int
        Number of columns, if X is a table."""

# What is otherwise in estimators that adapt to a target domain.
_ADAPTED = {
    """} or callable, default="cosine"
""": """, "auto"} or callable, default="auto"
        "auto" is "annealed" for "dann" and "cdan" and "cosine" for other methods.
""",
    """"strong"}, callable or None, default=None
        Random views""": """"strong", "target", "auto"}, callable or None, \
default="auto"
        "target" draws source images towards the look of the target samples, by a
        :class:`TargetStyle`. "auto" does that, with four `n_views`, where the method
        trains on both domains together and takes images, and nothing otherwise. The
        others are random views""",
    "    backbone_ : Backbone": """    style_ : TargetStyle
        What source images were drawn towards the target by.
    backbone_ : Backbone""",
}

_SHARED = {
    "{parameters}": PARAMETERS,
    "{settings}": SETTINGS,
    "{augmentation}": AUGMENTATION,
    "{attributes}": ATTRIBUTES,
}


def shares_docs(cls):
    """Put what estimators share into a class's docstring; a decorator."""
    if cls.__doc__ is None:  # python -OO
        return cls
    for place, text in _SHARED.items():
        cls.__doc__ = cls.__doc__.replace("    " + place, text)
    return cls


def shares_adapted_docs(cls):
    """Do so for a class that adapts to a target domain; a decorator."""
    if shares_docs(cls).__doc__ is None:
        return cls
    for text, changed in _ADAPTED.items():
        assert text in cls.__doc__, text
        cls.__doc__ = cls.__doc__.replace(text, changed)
    return cls
