"""Folds by hand: subjects together, grades spread, and planted leaks caught."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.data.dataset import Sample
from tidemark_cli.core.errors import DatasetError
from tidemark_cli.core.training.folds import Fold, check_folds, is_stratified, split_folds


def samples(**grades):
    """Samples named by their ids, with their grades."""
    return [Sample(one, Path(one), grade) for one, grade in grades.items()]


# four subjects, two of grade 0 and two of grade 1, two samples each
TWO_GRADES = samples(A_1=0, A_2=0, B_1=1, B_2=1, C_1=0, C_2=0, D_1=1, D_2=1)


def subjects(part):
    return {one.split("_")[0] for one in part}


@pytest.mark.parametrize("seed", range(10))
def test_two_folds_by_hand(seed):
    first, second = split_folds(TWO_GRADES, 2, seed)
    for fold, other in ((first, second), (second, first)):
        # each holds out one subject of each grade; of the two others one trains and one validates
        assert len(fold.held_out) == 4 and subjects(fold.held_out) in (
            {"A", "B"},
            {"A", "D"},
            {"B", "C"},
            {"C", "D"},
        )
        assert subjects(fold.training) | subjects(fold.validation) == subjects(other.held_out)
        assert len(subjects(fold.training)) == len(subjects(fold.validation)) == 1


def test_the_seed_decides():
    splits = [split_folds(TWO_GRADES, 2, seed) for seed in range(10)]
    assert splits == [split_folds(TWO_GRADES, 2, seed) for seed in range(10)]
    assert len(set(map(tuple, splits))) > 1


def test_the_seed_decides_on_the_validation_part_too() -> None:
    five = samples(A_1=None, B_1=None, C_1=None, D_1=None, E_1=None)
    chosen: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for fold in (fold for seed in range(40) for fold in split_folds(five, 2, seed)):
        chosen.setdefault(fold.held_out, set()).add(fold.validation)
    assert max(map(len, chosen.values())) > 2  # the three left, parted in one way only, have two parts


def test_a_subject_of_one_grade_is_trained_on_as_others_are():
    # the largest subject, of one grade: the splitter puts it first
    plugs = samples(A_1=3, A_2=3, A_3=3, A_4=3, B_1=3, C_1=3)
    for name, grade in zip("DEFGHIJK", (0, 1, 2, 0, 0, 1, 2, 0), strict=True):
        plugs += samples(**{f"{name}_1": grade, f"{name}_2": grade})
    trained = [sum("A" in subjects(f.training) for f in split_folds(plugs, 4, seed)) for seed in range(20)]
    assert sum(trained) / len(trained) > 1.5  # 2.25 by chance: three folds do not hold it out


def test_without_grades_the_folds_are_equal_in_size():
    ungraded = [replace(sample, grade=None) for sample in TWO_GRADES]
    folds = split_folds(ungraded, 4, seed=3)
    assert sorted(subjects(fold.held_out).pop() for fold in folds) == ["A", "B", "C", "D"]
    assert all(len(fold.held_out) == 2 for fold in folds)


def test_the_paper_s_groups_by_hand():
    # scikit-learn's GroupKFold: the largest group first, each to the fold that has least
    few = samples(A_1=0, B_1=0, B_2=0, B_3=0, C_1=0, C_2=0)
    folds = split_folds(few, 2, seed=0, paper=True)
    assert [fold.held_out for fold in folds] == [("B_1", "B_2", "B_3"), ("A_1", "C_1", "C_2")]
    assert all(fold.validation == fold.held_out for fold in folds)
    assert folds == split_folds([replace(sample, grade=None) for sample in few], 2, seed=9, paper=True)


def test_grades_too_rare_for_the_folds_are_not_stratified_by():
    assert is_stratified(TWO_GRADES, 4) and not is_stratified(TWO_GRADES, 5)
    assert not is_stratified(samples(A_1=None), 2)
    rare = samples(A=0, B=1, C=2, D=3, E=None)
    assert len(split_folds(rare, 5, seed=0)) == 5


@given(
    st.lists(st.tuples(st.integers(0, 7), st.one_of(st.none(), st.integers(0, 3))), min_size=3, max_size=30),
    st.integers(2, 5),
    st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_laws(plugs, count, seed):
    found = [Sample(f"S{s}_{i}", Path(), grade) for i, (s, grade) in enumerate(plugs)]
    number = len({s for s, _ in plugs})
    try:
        folds = split_folds(found, count, seed)
    except DatasetError:
        assert number < count or count == 2  # of two folds, one may leave one subject alone
        return
    assert sorted(one for fold in folds for one in fold.held_out) == sorted(s.sample_id for s in found)
    for fold in folds:
        parts = fold.held_out, fold.training, fold.validation
        assert all(parts) and sum(map(len, parts)) == len(found)
        assert len(set().union(*map(subjects, parts))) == sum(len(subjects(part)) for part in parts)


PLAIN = Fold(("A_1", "A_2"), ("B_1", "B_2"), ("C_1", "C_2", "D_1", "D_2"))


@pytest.mark.parametrize(
    ("leak", "message"),
    [
        (replace(PLAIN, training=("B_1", "B_2", "A_2")), "held out and training share .* A"),
        (replace(PLAIN, training=("B_1", "B_2", "C_2")), "training and validation share .* C"),
        (replace(PLAIN, validation=("A_1",)), "held out and validation share .* A"),
        (replace(PLAIN, held_out=()), "no sample in its held out part"),
        (replace(PLAIN, held_out=("A_1", "E_1")), "E_1, which the dataset does not have"),
    ],
)
def test_a_planted_leak_is_caught(leak, message):
    rest = [Fold((f"{s}_1", f"{s}_2"), PLAIN.held_out, ("Z_1",)) for s in "BCD"]
    rest = [
        replace(fold, validation=("C_1",) if s != "C" else ("D_1",))
        for s, fold in zip("BCD", rest, strict=True)
    ]
    check_folds([PLAIN, *rest], TWO_GRADES)
    with pytest.raises(DatasetError, match=message):
        check_folds([leak, *rest], TWO_GRADES)


def test_a_subject_held_out_twice_or_never_is_caught():
    whole = split_folds(TWO_GRADES, 2, seed=0)
    with pytest.raises(DatasetError, match="held out by no fold"):
        check_folds(whole[:1], TWO_GRADES)
    with pytest.raises(DatasetError, match="folds 0 and 1 share"):
        check_folds([whole[0], whole[0]], TWO_GRADES)


def test_the_held_out_fold_chooses_the_epoch_only_for_the_paper():
    optimistic = split_folds(TWO_GRADES, 2, seed=0, paper=True)
    check_folds(optimistic, TWO_GRADES, paper=True)
    with pytest.raises(DatasetError, match="held out and validation"):
        check_folds(optimistic, TWO_GRADES)
