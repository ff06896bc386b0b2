"""Parameter groups: who learns at what rate and whose weights decay."""

from sktransfer.training._schedule import warmup_cosine

__all__ = ["parameter_groups", "warmup_cosine"]

# What timm's networks list in `no_weight_decay()`, with torchvision's names for it (its
# training script has `--transformer-embedding-decay` for the same); scales of layers
# are vectors that torchvision keeps as (c, 1, 1).
_NOT_DECAYED = frozenset(
    {
        "absolute_pos_embed",
        "class_token",
        "cls_token",
        "dist_token",
        "distillation_token",
        "layer_scale",
        "logit_scale",
        "mask_token",
        "pos_embed",
        "pos_embedding",
        "position_embedding",
        "position_embeddings",
        "reg_token",
        "register_tokens",
        "relative_position_bias_table",
    }
)
_OBJECTIVE_LR_RATIO = 5  # over the head's


def parameter_groups(
    named_parameters,
    *,
    lr,
    backbone_lr_ratio,
    weight_decay,
    layer_decay=1.0,
    stages_above=None,
):
    """Group the trainable parameters by learning rate and weight decay.

    Parameters
    ----------
    named_parameters : iterable of (str, torch.nn.Parameter)
        Names that start with ``head.`` are the head's, those that start with
        ``objective.`` learn five times as fast as the head: ten times as fast as a
        backbone's last stage whose `backbone_lr_ratio` is 0.5 (Ganin et al., 2016,
        https://arxiv.org/abs/1505.07818; Long et al., 2018,
        https://arxiv.org/abs/1705.10667).
    lr : float
        Learning rate of the head.
    backbone_lr_ratio : float
        Learning rate of the backbone's last stage over the head's.
    weight_decay : float
        Of weight matrices and kernels. Norms and biases are not decayed (He et al.,
        2019, https://arxiv.org/abs/1812.01187), nor are position embeddings and class
        tokens (as in timm's ``param_groups_weight_decay``).
    layer_decay : float, default=1.0
        Learning rate of a stage over that of the stage above it (Howard and Ruder,
        2018, https://arxiv.org/abs/1801.06146; Bao et al., 2022,
        https://arxiv.org/abs/2106.08254).
    stages_above : dict of str to int, default=None
        How many trained stages are between a parameter's own and the head. By default,
        and for names that are missing, none.

    Returns
    -------
    list of dict
        As a torch optimiser takes them, in the order in which the first parameter of
        each came.
    """
    stages_above = stages_above or {}
    groups = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        rate = lr
        if name.startswith("objective."):
            rate *= _OBJECTIVE_LR_RATIO
        elif not name.startswith("head."):
            rate *= backbone_lr_ratio * layer_decay ** stages_above.get(name, 0)
        decay = weight_decay if _is_decayed(name, parameter) else 0.0
        # NumPy's floats, as grid searches have them, don't load with `weights_only`.
        groups.setdefault((float(rate), float(decay)), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _is_decayed(name, parameter):
    return parameter.ndim > 1 and name.rpartition(".")[2] not in _NOT_DECAYED
