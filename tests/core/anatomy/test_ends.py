"""The bone end by hand: masks of a few voxels, and plugs of smooth grey levels and bands."""

import numpy as np
import pytest

from tidemark_cli.core.anatomy.ends import SURE, Judgement, as_told, judge_mask, judge_scan


def plug_mask(gap: int) -> np.ndarray:
    """Return (Z, Y, X): a plate under a wavy tidemark, on bone with a cavity, `gap` empty voxels below it."""
    y, x = np.mgrid[:16, :16]
    top = 14 + np.round(np.sin(y / 3) + x / 8).astype(int)
    z = np.arange(30)[:, None, None]
    hard = (z <= top) & (z >= gap) & ~((z < 10) & (abs(x - 8) < 4))
    return hard.astype(np.uint8)


def told(mask: np.ndarray) -> tuple[str, bool]:
    judged = judge_mask(mask)
    assert judged is not None
    return judged.end, judged.confidence >= SURE


@pytest.mark.parametrize(("gap", "sure"), [(0, True), (4, False)])
def test_the_mask_tells_where_the_bone_is(gap: int, sure: bool) -> None:
    mask = plug_mask(gap)
    assert told(mask) == ("first", sure)
    assert told(mask[::-1]) == ("last", sure)
    mask[-1, 0, 0] = 1  # a speck at the other end tells nothing
    assert told(mask) == ("first", sure)


@pytest.mark.parametrize(("columns", "sure"), [(12, False), (13, True)])
def test_bone_must_reach_the_end_in_a_twentieth_of_the_columns(columns: int, sure: bool) -> None:
    mask = plug_mask(4)  # 256 columns
    mask[:4, 0, :columns] = 1
    assert told(mask) == ("first", sure)


def test_a_block_has_its_bone_at_the_nearer_end() -> None:
    block = np.zeros((10, 3, 3), np.uint8)
    block[6:9] = 255
    assert told(block) == ("last", False)
    assert told(block[::-1]) == ("first", False)


def test_an_empty_mask_tells_nothing_and_one_voxel_of_a_large_mask_is_seen() -> None:
    mask = np.zeros((10, 1, 700), np.uint8)
    assert judge_mask(mask) is None
    mask[8, 0, 3] = 255
    assert told(mask) == ("last", False)


def test_porous_bone_may_be_three_quarters_of_a_plug() -> None:
    hard = np.zeros((100, 40, 40), bool)
    hard[2:70, ::5, ::5] = hard[70:80] = True  # thin trabeculae below a plate
    grey = np.where(hard, 110, 55).astype(np.uint8)  # fat as marrow
    grey[80:98] = 90  # cartilage
    mask = np.where(hard, 255, 0).astype(np.uint8)
    assert np.average(np.arange(100), weights=mask.sum((1, 2))) > 50
    for turn, end in ((1, "first"), (-1, "last")):
        judged = judge_mask(mask[::turn], grey[::turn], 50.0)
        assert judged is not None
        assert judged.end == end
        assert judged.confidence > 0.8


def test_cartilage_beyond_the_hard_tissue_outweighs_its_shape() -> None:
    mask = plug_mask(4)
    grey = np.where(mask > 0, 110, 0)
    grey[:4] = 90  # cartilage on the rough side, air on the even one
    assert judge_mask(mask) == Judgement("first", pytest.approx(0.2, abs=0.05))
    judged = judge_mask(mask, grey, 50.0)
    assert judged is not None
    assert judged.end == "last"
    assert judged.confidence > 0.9


def thick_plate(bone: float = 110, spots: float = 30, crest: float = 80) -> tuple[np.ndarray, np.ndarray]:
    """Return grey levels and tissue (Z, 1, X), 20 µm apart: solid bone up to z = 30, cartilage to 80."""
    z, x = np.ogrid[:90, :60]
    grey = np.where(z < 30, bone, 100.0 + crest * np.exp(-(z - 30).clip(0) / 12))
    grey = grey + np.where(z >= 33, spots * np.sin(z * 1.3) * np.sin(x * 1.1), 0)
    tissue = np.broadcast_to((z >= 5) & (z < 80) & (x >= 5) & (x < 55), grey.shape)
    return np.where(tissue, grey, 0)[:, None], tissue[:, None]


def judged_both_ways(grey: np.ndarray, tissue: np.ndarray) -> list[Judgement]:
    return [judge_scan(grey[::turn], tissue[::turn], 50.0, 20.0) for turn in (1, -1)]


def test_a_plate_free_of_marrow_is_told_by_its_uniform_bone() -> None:
    """Fissures make the cartilage the hollower end, and there is no crest."""
    grey, tissue = thick_plate(crest=0, bone=100)
    tissue = tissue.copy()
    tissue[60:, :, 20:22] = False
    first, last = judged_both_ways(np.where(tissue, grey, 0), tissue)
    assert (first.end, last.end) == ("first", "last")
    assert first.confidence == pytest.approx(last.confidence, abs=0.02)
    assert 0.1 < first.confidence < 0.5  # weak evidence against weak evidence


def test_a_plate_free_of_marrow_is_told_by_the_fall_below_the_crest() -> None:
    first, last = judged_both_ways(*thick_plate(spots=0))
    assert (first.end, last.end) == ("first", "last")
    assert first.confidence > SURE


def test_what_is_the_same_at_both_ends_tells_nothing() -> None:
    first, last = judged_both_ways(*thick_plate(bone=100, spots=0, crest=0))
    assert first.confidence == last.confidence == pytest.approx(0, abs=0.02)


def test_what_is_told_is_certain_and_only_the_two_ends_are() -> None:
    assert as_told("first") == Judgement("first", 1.0) == Judgement("last", 1.0).turned
    assert as_told("auto") is None
    with pytest.raises(ValueError, match="bone_end must be auto, first or last; found 'top'"):
        as_told("top")


def test_hard_tissue_between_the_columns_looked_at_tells_as_much() -> None:
    mask = np.zeros((30, 600, 600), np.uint8)  # every fourth column is looked at
    mask[:8, 401:404, 201:204] = 255
    assert (found := judge_mask(mask)) is not None and found.end == "first"
    assert (turned := judge_mask(mask[::-1])) is not None and turned.end == "last"
    assert turned.confidence == pytest.approx(found.confidence)
    mask[:8, 1:3, 597:599] = 255  # far away: the columns between are looked at in cells
    assert (found := judge_mask(mask)) is not None and found.end == "first"
    assert judge_mask(np.zeros_like(mask)) is None
