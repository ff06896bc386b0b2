"""Parameter groups and the learning-rate schedule."""

import math

__all__ = ["parameter_groups", "warmup_cosine"]


def parameter_groups(named_parameters, *, lr, backbone_lr_ratio, weight_decay):
    """Group the trainable parameters by learning rate and weight decay.

    Parameters
    ----------
    named_parameters : iterable of (str, torch.nn.Parameter)
        Names that start with ``head.`` are the head's.
    lr : float
        Learning rate of the head.
    backbone_lr_ratio : float
        Learning rate of the backbone over the head's.
    weight_decay : float
        Of weight matrices and kernels; norms and biases are not decayed (He et al.,
        2019, https://arxiv.org/abs/1812.01187).

    Returns
    -------
    list of dict
        As a torch optimiser takes them.
    """
    groups = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        rate = lr if name.startswith("head.") else lr * backbone_lr_ratio
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


# Adam's second moments, with a memory of 1,000 steps, are noise in the first few.
_MIN_WARMUP = 10


def warmup_cosine(step, *, n_steps, warmup=0.1):
    """Return the factor on the learning rate: a linear rise, then half a cosine.

    Parameters
    ----------
    step : int
        From 0.
    n_steps : int
    warmup : float, default=0.1
        Share of the steps that rise; at least ten steps do, or half of a short run.

    Returns
    -------
    float
        In [0, 1].
    """
    n_warmup = max(1, round(warmup * n_steps), min(_MIN_WARMUP, n_steps // 2))
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
