"""What a rater is shown: balanced, blinded, nothing twice, controls among the rest."""

from collections import Counter
from pathlib import Path

import pytest

from imagen_jax.errors import UserError
from imagen_jax.raters.controls import Control, Picture
from imagen_jax.raters.plan import (
    clashes,
    plan_trials,
    shown_pictures,
    shown_prompt,
)
from imagen_jax.raters.settings import Settings, System
from imagen_jax.raters.study import Item, Study

FOLDER = Path("study")
SYSTEMS = (System("Imagen", "m"), System("original", "r"))


def picture(name: str) -> Picture:
    return Picture(f"{name}.png", f"hash of {name}")


def make_study(kind="quality", num=30, num_controls=5, categories=("",), **settings):
    """A study without files; its controls show pairs c0, c1, ... besides the items."""
    per_side = 8 if kind == "drawbench" else 1
    items = tuple(
        Item(
            f"i{i}",
            f"prompt {i}",
            categories[i % len(categories)],
            tuple(
                tuple(picture(f"{side}{i}-{k}") for k in range(per_side))
                for side in "mr"
            ),
        )
        for i in range(num)
    )
    controls = tuple(
        Control(
            str(i + 1),
            f"control {i}" if kind == "alignment" else "",
            tuple(picture(f"c{i}{side}") for side in "rw"[: 1 + (kind == "quality")]),
            ("no",) if kind == "alignment" else (),
        )
        for i in range(2 * num_controls)
    )
    chosen = Settings(kind, SYSTEMS, num_controls=num_controls, **settings)
    return Study(FOLDER, chosen, items, controls)


def plan_all(study, num_raters):
    """The plans of several raters, each after what was given before."""
    counts, plans = Counter(), []
    for rater in range(num_raters):
        plans.append(plan_trials(study, rater, counts))
        for trial in plans[-1]:
            if not trial.is_control:
                counts[trial.item, trial.system] += 1
    return plans, counts


@pytest.mark.parametrize("kind", ["quality", "alignment"])
def test_nobody_sees_a_pair_or_a_control_twice(kind):
    plans, _ = plan_all(make_study(kind, batch=20), 12)
    for trials in plans:
        assert len(trials) == 25
        shown = [(trial.item, trial.is_control) for trial in trials]
        assert len(set(shown)) == 25
        assert sum(trial.is_control for trial in trials) == 5
    assert len({tuple(trials) for trials in plans}) == 12  # everybody's own order


@pytest.mark.parametrize("kind", ["quality", "alignment", "drawbench"])
def test_ratings_spread_evenly_over_pairs(kind):
    num_controls = 0 if kind == "drawbench" else 5
    _, counts = plan_all(make_study(kind, batch=7, num_controls=num_controls), 33)
    per_item = Counter()
    for (item, _), count in counts.items():
        per_item[item] += count
    assert len(per_item) == 30
    assert max(per_item.values()) - min(per_item.values()) <= 1
    if kind == "alignment":
        assert {system for _, system in counts} == {0, 1}
        for item in per_item:
            assert abs(counts[item, 0] - counts[item, 1]) <= 1


@pytest.mark.parametrize("num", [8, 9])
def test_either_side_comes_first_in_half_of_the_trials(num):
    plans, _ = plan_all(make_study(num=num, num_controls=4), 40)
    for trials in plans:
        for flag in (False, True):
            sides = [t.swapped for t in trials if t.is_control == flag]
            assert abs(2 * sum(sides) - len(sides)) <= 1
    firsts = [trials[0].swapped for trials in plans]
    assert 8 < sum(firsts) < 32  # and not always the same one first


def test_controls_are_spread_over_the_pages():
    plans, _ = plan_all(make_study(num=45, num_controls=5), 40)
    places = Counter()
    for trials in plans:
        found = [i for i, trial in enumerate(trials) if trial.is_control]
        assert [i // 10 for i in found] == list(range(5))
        places.update(found)
    assert len(places) > 35  # anywhere in its part


def test_an_alignment_rater_judges_one_system_of_each_prompt_and_both_in_all():
    plans, _ = plan_all(make_study("alignment", batch=20), 6)
    for trials in plans:
        systems = Counter(t.system for t in trials if not t.is_control)
        assert set(systems) == {0, 1}
        assert not any(trial.swapped for trial in trials)


def test_a_drawbench_rater_gets_one_category():
    study = make_study("drawbench", 33, 0, categories=("x", "y", "z"))
    plans, _ = plan_all(study, 6)
    category = {item.name: item.category for item in study.items}
    found = [{category[trial.item] for trial in trials} for trials in plans]
    assert found == [{"x"}, {"y"}, {"z"}] * 2
    assert all(len(trials) == 11 for trials in plans)


def test_what_stands_on_the_page():
    study = make_study(num=8)
    for trial in plan_trials(study, 0, {}):
        (first,), (second,) = shown_pictures(study, trial)
        if trial.is_control:
            right = f"c{int(trial.item) - 1}r.png"
            assert (second if trial.swapped else first).file == right
        else:
            assert (second if trial.swapped else first).file.startswith("m")
            assert shown_prompt(study, trial) == f"prompt {trial.item[1:]}"
    study = make_study("alignment", num=8)
    for trial in plan_trials(study, 0, {}):
        ((shown,),) = shown_pictures(study, trial)
        assert shown.file[0] == ("c" if trial.is_control else "mr"[trial.system])


def test_a_pair_that_a_control_shows_is_left_out():
    study = make_study(num=8, num_controls=2)
    item = study.items[3]
    by_picture = Control("1", "", (item.pictures[1][0], picture("mosaic")), ())
    by_prompt = Control("1", item.prompt, (picture("x"),), ("no",))
    assert clashes(item, [by_picture])
    assert clashes(item, [by_prompt])
    assert not any(clashes(other, [by_picture]) for other in study.items[:3])
    taken = Study(
        FOLDER, study.settings, study.items, (by_picture, *study.controls[:1])
    )
    names = {trial.item for trial in plan_trials(taken, 0, {}) if not trial.is_control}
    assert names == {f"i{i}" for i in range(8) if i != 3}
    alone = Study(FOLDER, study.settings, (item,), taken.controls)
    with pytest.raises(UserError, match="the controls show all pairs"):
        plan_trials(alone, 0, {})
