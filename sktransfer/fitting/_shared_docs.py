"""Documentation that the classifier and the regressor share."""

_NETWORK = """\
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
    head : {"linear", "mlp", "cosine"} or torch.nn.Module, default="linear"
        "mlp" has one hidden layer, "cosine" compares directions, for few samples. A
        module maps (n, n_features) to (n, n_outputs).
    pooling : {"auto", "avg", "max", "avgmax", "cls", "flatten"} or Pooling, \
default="auto"
        From the last stage's activation to the head. "auto" is what the network itself
        does in front of its classifier, and "avg" where it has no such part. See
        :class:`Pooling`."""

_TRAINING = """\
    max_epochs : int, default=10
        Passes over the samples. The probe has none.
    lr : float, default=1e-3
        Highest learning rate of the head (AdamW).
    batch_size : int or "auto", default="auto"
        Samples per training step; "auto" is 32. Without `accumulate_grad_batches`, a
        step is a batch. The number of samples that go through frozen stages at a time
        is chosen for the device.
    augment : {"crop", "crop_flip", "light", "medium", "strong"}, callable, \
Augmentation or None, default=None
        Random views of the images to train on. See :class:`Augmentation`, which also
        has fixed views, mixup, CutMix, test-time augmentation and augmentation of
        activations.
    early_stopping : bool or EarlyStopping, default=False
        Whether to stop when the validation loss no longer falls, and restore the best
        weights. See :class:`EarlyStopping`.
    training : TrainingRecipe, default=None
        Learning rates of the stages, schedule, regularisation, gradual unfreezing,
        adapters and more; by default those of ``TrainingRecipe()``. It can be searched,
        as by ``training__weight_decay``. See :class:`TrainingRecipe`.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
    image_shape : tuple, default=None
        Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
    value_range : "auto" or (low, high), default="auto"
        Values of black and white in arrays, and in images of more than 8 bits. "auto"
        is (0, 1) for floats, (0, 65535) for uint16 and (0, 255) for other integers.
    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one.
    memory : str, os.PathLike, joblib.Memory or None, default=None
        Folder in which activations are kept for other processes and later runs. They
        are kept in this process's memory in any case; see the user guide.
    checkpoint : str or os.PathLike, default=None
        Folder in which the state of the training is kept, epoch by epoch, until it is
        over. A killed `fit` on the same data with the same parameters goes on there.
    warm_start : bool, default=False
        Whether another `fit` trains the network further. A linear head that is solved
        is solved again, on the new samples alone.
    callbacks : list of skorch callbacks or (name, callback), default=None
        Added to those of the training, see :mod:`skorch.callbacks`. The probe has none.
    random_state : int, RandomState instance or None, default=None
        Seeds the order of the samples, dropout and random weights.
    verbose : int, default=0
        Whether to show a progress bar and to print a line per epoch."""

_ATTRIBUTES = """\
    model_ : FittedModel
        All that predictions depend on, in one object. Training on changes its network.
    backbone_ : Backbone
        The network in stages, as trained.
    boundary_ : str
        Name of the stage or block up to which the network is frozen.
    freeze_depth_ : int
        Number of whole frozen stages.
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
        their linear centred kernel alignment. It is measured in the first training, and
        deleted when another one goes on.
    module_ : torch.nn.Module
        From model inputs to scores, in float32: prefix, suffix, pool and head.
    net_ : skorch.NeuralNet
        What trained the suffix and the head, from activations to scores.
    history_ : pandas.DataFrame
        One row per epoch; one row for a probe.
    pass_report_ : pandas.DataFrame
        What `fit` took from the store, computed and kept.
    n_features_in_ : int
        Number of columns, if X is a table."""

_SHARED = {
    "{network}": _NETWORK,
    "{training}": _TRAINING,
    "{attributes}": _ATTRIBUTES,
}


def shares_docs(cls: type) -> type:
    """Put what the estimators share into a class's docstring; a decorator."""
    if cls.__doc__ is None:  # python -OO
        return cls
    for place, text in _SHARED.items():
        cls.__doc__ = cls.__doc__.replace("    " + place, text)
    return cls
