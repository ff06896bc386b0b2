"""Parts of docstrings that the classifier and the regressor share."""

_NETWORK = """\
    backbone : str, torch.nn.Module, callable, Backbone or fitted estimator, \
default="efficientnet_lite0"
        See :func:`sktransfer.backbones.load_backbone`. The default's ImageNet weights
        are installed with sktransfer. Of a fitted estimator, the trained network is
        used; as scikit-learn's searches clone estimators, wrap it in
        :class:`sklearn.frozen.FrozenEstimator` there.
    weights : str, os.PathLike, mapping or None, default="default"
        ``"default"``; None for random weights; the name of other weights of the
        provider; the path of a checkpoint; or a state dict.
    freeze : int, float or str, default="auto"
        How many leading stages keep their weights:

        - int: this number of stages; if negative, all but the last ``-freeze``;
        - float in (0, 1): this share of the stages;
        - the name of a stage or block: everything up to and including it;
        - ``"all"``: only the head is trained; ``"none"``: everything is trained;
        - ``"auto"``: the first third for fewer than 10,000 samples and none for more,
          but all stages where a linear probe of the features is nearly perfect; see
          ``freeze_reason_``.
    head : {"linear", "mlp", "cosine"}, another registered name or torch.nn.Module, \
default="linear"
        "mlp" has one hidden layer. "cosine" has scaled cosine similarities as scores,
        which suits few samples. A module maps (n, n_features) to (n, n_outputs).
    pooling : {"auto", "avg", "max", "avgmax", "cls", "last", "flatten"} or Pooling, \
default="auto"
        How the activation of the last stage becomes one vector per sample. "auto" is
        the network's own pooling in front of its classifier, what a network for texts
        was trained with, or else "avg". See :class:`Pooling`."""

_TRAINING = """\
    max_epochs : int or "auto", default="auto"
        Number of passes over the samples. "auto" is 20 for up to 2,000 samples, for
        vectors, and with early stopping; otherwise as many as pass 40,000 samples, at
        least three. The probe is solved without epochs.
    lr : float, default=5e-4
        Highest learning rate of the head (AdamW).
    batch_size : int or "auto", default="auto"
        Number of samples per training step; "auto" is 32. The batch size of the frozen
        stages is another one, and is chosen for the device.
    augment : {"auto", "crop", "crop_flip", "light", "medium", "strong", \
"word_dropout"}, callable, Augmentation or None, default="auto"
        Random views of the samples to train on. "auto" is each image or its mirror
        image where stages are trained for classes, unless a discriminant of the
        features takes mirror images of one class for another one, and the other way
        round, or recognises far fewer of them than of the images. None is the samples
        themselves, and "word_dropout" is for texts. See :class:`Augmentation`, which
        also has fixed views, mixup, CutMix, test-time augmentation and augmentation of
        activations.
    early_stopping : bool or EarlyStopping, default=False
        Whether to choose a number of epochs, up to `max_epochs`, by samples that are
        held out in a trial. See :class:`EarlyStopping`.
    training : TrainingRecipe, default=None
        Learning rates of the stages, schedule, regularisation, gradual unfreezing,
        adapters and more; by default ``TrainingRecipe()``. Its parameters can be
        searched, for example ``training__weight_decay``. See :class:`TrainingRecipe`.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
    image_shape : tuple, default=None
        Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
    value_range : "auto" or (low, high), default="auto"
        Values of black and white in arrays, and in images of more than 8 bits. "auto"
        is (0, 1) for floats, (0, 65535) for uint16 and (0, 255) for other integers.
    device : str or torch.device, default="auto"
        Device to compute on. "auto" is a GPU if there is one; worker processes are
        spread over several GPUs. With "accelerate" (an extra), processes that
        ``accelerate launch`` or ``torchrun`` started train together, each on its own
        device; see the user guide.
    memory : str, os.PathLike, joblib.Memory or None, default=None
        Folder in which activations are kept for other processes and later runs. They
        are kept in this process's memory in any case; see the user guide.
    checkpoint : str or os.PathLike, default=None
        Folder in which the state of the training is saved after each epoch, until `fit`
        is complete. If `fit` was interrupted, the next one with the same data and
        parameters continues from there. By default nothing is saved.
    warm_start : bool, default=False
        Whether `fit` of a fitted estimator trains its network further. With
        ``freeze="all"``, a linear head is solved again, on the new samples alone.
    callbacks : list of skorch callbacks or (name, callback), default=None
        Callbacks of the training, see :mod:`skorch.callbacks`. Each fit calls shallow
        copies of them. They are not called for the probe.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random: the order of the samples, those held out, random
        views, dropout and random weights.
    verbose : int, default=0
        1 shows a progress bar for each part of the work, with the losses of the
        training; 2 prints a line per epoch instead of the latter."""

_ATTRIBUTES = """\
    model_ : FittedModel
        Everything that predictions depend on. Further training changes its network.
    backbone_ : Backbone
        The network in stages, as trained.
    boundary_ : str
        Name of the stage or block up to which the network is frozen.
    freeze_depth_ : int
        Number of whole frozen stages.
    freeze_reason_ : str
        Why ``freeze="auto"`` chose this boundary; missing for other values.
    backbone_lr_ratio_ : float
        Learning rate of the last stage relative to that of the head, which
        ``training__backbone_lr_ratio="auto"`` chose; 0 if only the head is trained.
    n_trainable_parameters_ : int
        Number of trained parameters, of the stages or their adapters and of the head.
    preprocessing_ : ImagePreprocessing or VectorPreprocessing
        Preprocessing of the samples, which is that of the weights.
    value_range_ : tuple or None
        The value range that was found in X.
    model_card_ : ModelCard
        Where the backbone comes from, its license, and what was trained on top.
    feature_drift_ : float
        How much the training changed the features of a few samples, from 0 to 1: one
        minus their linear centred kernel alignment. It is missing after
        :meth:`partial_fit` or a warm start has trained the network further.
    module_ : torch.nn.Module
        Module from model inputs to scores, in float32: prefix, suffix, pool and head.
    net_ : skorch.NeuralNet
        Net that trained the suffix and the head. It takes activations.
    history_ : pandas.DataFrame
        One row per epoch, with the losses, the learning rate ``lr`` and, for classes,
        the accuracies ``train_accuracy`` and ``valid_accuracy``; with gradual
        unfreezing, the ``boundary`` up to which stages were frozen; one row for a
        probe. The epochs of a trial of early stopping come first, with ``is_trial``.
    n_iter_ : int
        Number of epochs, without those of a trial; for a probe, of iterations of its
        solver.
    best_epoch_ : int
        Epoch that was best on the validation samples of early stopping, 0 for the
        start; missing without it.
    pass_report_ : pandas.DataFrame
        What was found in the store, computed and kept, per boundary.
    n_features_in_ : int
        Number of columns, if X is a table."""

_SHARED = {
    "{network}": _NETWORK,
    "{training}": _TRAINING,
    "{attributes}": _ATTRIBUTES,
}


def shares_docs(cls: type) -> type:
    """Insert the shared parts into the docstring of the decorated class."""
    if cls.__doc__ is None:  # removed by python -OO
        return cls
    for place, text in _SHARED.items():
        cls.__doc__ = cls.__doc__.replace("    " + place, text)
    return cls
