"""Recipes: what is drawn lies in its ranges, and rare shapes come where they are asked for."""

import numpy as np

from tidemark_cli.core.phantoms.anatomy import Anatomy, Stain


def test_hard_phantoms_have_what_easy_ones_lack():
    def drawn(hard: bool) -> list:
        rng = np.random.default_rng(1)
        return [(Anatomy.draw(rng, 2400, 1400, odd=hard), Stain.draw(rng, wide=hard)) for _ in range(60)]

    easy, odd = drawn(False), drawn(True)
    assert not any(a.cleft_um or a.scallops_um or a.terraces_um for a, _ in easy)
    assert any(a.cleft_um for a, _ in odd) and any(a.scallops_um for a, _ in odd)
    assert min(a.plate_um for a, _ in odd) < 60 and max(a.plate_um for a, _ in odd) > 700
    depths = [s.soak_um for _, s in odd]
    assert 15 < np.median(depths) < 30 and min(depths) == 1 and max(depths) <= 45
    assert any(s.clot_threshold < 2 for _, s in odd) and not any(s.clot_threshold < 2 for _, s in easy)
