from . import (
    augment,
    batches,
    fold_run,
    folds,
    loop,
    losses,
    on_dataset,
    on_phantoms,
    settings,
    slices,
    validation,
)

__all__ = [
    "augment",
    "batches",
    "fold_run",
    "folds",
    "loop",
    "losses",
    "on_dataset",
    "on_phantoms",
    "settings",
    "slices",
    "validation",
]
