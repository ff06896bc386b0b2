"""What was trained on top of a backbone, for the model card."""

import pandas as pd

__all__ = [
    "describe_fit",
    "describe_more",
    "epochs_table",
    "n_trainable",
    "strategy_of",
]


def describe_fit(estimator, samples):
    """Say what was trained, and on how many distinct samples (dict).

    Parameters
    ----------
    estimator : FineTunedEstimator
        Fitted.
    samples : Samples or VectorSamples
    """
    described = {"strategy": strategy_of(estimator), "samples": len(samples)}
    if hasattr(estimator, "classes_"):
        described["classes"] = [str(label) for label in estimator.classes_.tolist()]
    return described | {
        "outputs": estimator._n_outputs,
        "freeze_depth": estimator.freeze_depth_,
        "boundary": estimator.boundary_,
        "epochs": len(estimator.history_),
    }


def describe_more(estimator, samples):
    """Say what was trained by an estimator that went on (dict).

    Parameters
    ----------
    estimator : FineTunedEstimator
        Its card tells of the trainings before.
    samples : Samples or VectorSamples
        Of the last training.
    """
    before = estimator._card["trained"]
    later = before.get("samples_later", 0) + len(samples)
    described = describe_fit(estimator, samples)
    return {**described, "samples": before["samples"], "samples_later": later}


def strategy_of(estimator):
    """Name what an estimator trained (str).

    Parameters
    ----------
    estimator : FineTunedEstimator
        Fitted.
    """
    if estimator.boundary_ == estimator._end():
        return "linear probe" if estimator._is_solved() else "head"
    if estimator.adapter is not None:
        return f"adapters ({estimator.adapter})"
    kind = "partial" if estimator.freeze_depth_ else "full"
    gradual = ", gradual unfreezing" if estimator.unfreeze_every else ""
    return f"{kind} fine-tuning{gradual}"


def epochs_table(rows):
    """Make a table of epochs, counted through (DataFrame).

    Parameters
    ----------
    rows : list of dict
        Of skorch's histories.
    """
    table = pd.DataFrame(rows).drop(columns="batches", errors="ignore")
    return table.assign(epoch=range(1, len(table) + 1))


def n_trainable(module):
    """Count the weights that are trained (int).

    Parameters
    ----------
    module : torch.nn.Module
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
