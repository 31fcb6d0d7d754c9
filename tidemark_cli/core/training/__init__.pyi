from . import (
    augment,
    batches,
    fold_run,
    folds,
    loop,
    losses,
    on_dataset,
    on_phantoms,
    slices,
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
    "slices",
]
