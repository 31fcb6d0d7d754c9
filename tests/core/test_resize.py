"""Slices resampled by hand."""

import numpy as np

from tidemark_cli.core.resize import resize


def test_a_slice_shrinks_by_means_and_grows_linearly() -> None:
    image = np.array([[0, 10, 20, 30], [20, 30, 40, 50]], np.float32)
    assert resize(image, (1, 2)).tolist() == [[15, 35]]
    grown = resize(np.array([[0, 40], [0, 40]], np.float32), (4, 4))
    assert grown.tolist() == [[0, 10, 30, 40]] * 4  # pixel centres lie half a pixel from the edge
    assert resize(image, (2, 4)) is image
