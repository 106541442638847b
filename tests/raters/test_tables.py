"""From answers to tables: sides undone, raters judged, sets and files."""

import csv
from pathlib import Path

import pytest

from imagen_jax.errors import UserError
from imagen_jax.raters import tables
from imagen_jax.raters.judgements import (
    has_people,
    judge_raters,
    rating_value,
    select_ratings,
)
from imagen_jax.raters.plan import Trial
from imagen_jax.raters.plot import plot_rows
from imagen_jax.raters.recorded import Answer, Recorded

PROMPTS = ["a red bus", "two men on a bus", "a Person, waving", "many mangoes"]


def make_recorded(kind, answers, num_controls=0, names=("Imagen", "original")):
    """A study of `PROMPTS` with answers (rater, item, answer, swapped, system).

    Item "c" is a control whose right answer is the first picture, or "no".
    """
    categories = ["x", "y"] if kind == "drawbench" else [""]
    items = [
        {
            "name": str(i),
            "prompt": prompt,
            "category": categories[i % len(categories)],
        }
        for i, prompt in enumerate(PROMPTS)
    ]
    settings = {
        "kind": kind,
        "num_controls": num_controls,
        "systems": [{"name": name} for name in names],
    }
    controls = [{"name": "1", "accepted": ["no"]}]
    rows = []
    for position, (rater, item, answer, swapped, system) in enumerate(answers):
        trial = Trial("1" if item == "c" else item, item == "c", swapped, system)
        given = answer if isinstance(answer, dict) else {kind: answer}
        rows += [Answer(rater, position, trial, q, a, 0.0) for q, a in given.items()]
    manifest = {"settings": settings, "items": items, "controls": controls}
    num_trials = {rater: 10 for rater in {1, 2, *(row[0] for row in answers)}}
    return Recorded(Path("study"), manifest, num_trials, rows)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A man rides", True),
        ("WOMEN's shoes", True),
        ("a baseball player", True),
        ("boy.", True),
        ("many mangoes, a human, a ladybird", False),
        ("playersx", False),
        ("", False),
    ],
)
def test_people_are_found_as_whole_words(prompt, expected):
    assert has_people(prompt) == expected


@pytest.mark.parametrize(
    ("kind", "answer", "swapped", "value"),
    [
        ("quality", "1", False, 1),
        ("quality", "2", False, 0),
        ("quality", "1", True, 0),
        ("quality", "2", True, 1),
        ("alignment", "yes", False, 100),
        ("alignment", "somewhat", False, 50),
        ("alignment", "no", False, 0),
        ("drawbench", "1", False, -1),
        ("drawbench", "1", True, 1),
        ("drawbench", "2", False, 1),
        ("drawbench", "2", True, -1),
        ("drawbench", "same", True, 0),
    ],
)
def test_an_answer_is_about_a_system_not_about_a_side(kind, answer, swapped, value):
    trial = Trial("0", False, swapped, None)
    assert rating_value(kind, Answer(1, 0, trial, kind, answer, 0.0)) == value


def quality_controls(rater, num_right, num):
    """Controls, sides swapped in every second; the right picture is system 0."""
    for i in range(num):
        swapped = i % 2 == 1
        right = "2" if swapped else "1"
        wrong = "1" if swapped else "2"
        yield rater, "c", right if i < num_right else wrong, swapped, None


def test_raters_below_80_percent_of_controls_do_not_count_and_are_told_apart():
    answers = [
        *quality_controls(3, 8, 10),
        *quality_controls(4, 7, 10),
        *((rater, "0", "1", False, None) for rater in (3, 4, 5)),
        (3, "1", "2", False, None),
    ]
    study = make_recorded("quality", answers, num_controls=10)
    why = {verdict.rater: verdict.why for verdict in judge_raters(study)}
    assert why == {
        1: "answered nothing",
        2: "answered nothing",
        3: "",
        4: "7 of 10 controls right (70 %, below 80 %)",
        5: "answered no control trial",
    }
    kept = select_ratings(study, "quality")
    assert kept.rater.tolist() == [3, 3]
    assert kept.value.tolist() == [1.0, 0.0]
    text = tables.format_raters(study, judge_raters(study))
    assert "5 links, 3 raters began, 0 finished, 1 count" in text
    assert "Left out: rater 4, 7 of 10 controls right (70 %, below 80 %)." in text
    assert "rater 1" not in text
    without = make_recorded("quality", answers, num_controls=0)
    assert judge_raters(without)[-1].is_kept


def test_alignment_controls_have_accepted_answers():
    answers = [(1, "c", "no", False, None), (2, "c", "somewhat", False, None)]
    verdicts = judge_raters(make_recorded("alignment", answers, num_controls=1))
    assert [v.controls_right for v in verdicts] == [1, 0]
    assert [v.is_kept for v in verdicts] == [True, False]


def test_table_2_has_both_sets_and_the_reference_at_50():
    quality = make_recorded(
        "quality",
        [
            *((r, "0", "1", False, None) for r in (1, 2)),  # the model is chosen
            *((r, "1", "1", True, None) for r in (1, 2)),  # the reference is
            *((r, "2", "2", False, None) for r in (1, 2)),
            *((r, "3", "2", True, None) for r in (1, 2)),
        ],
    )
    alignment = make_recorded(
        "alignment",
        [
            *((1, item, "yes", False, 1) for item in "0123"),
            *((2, item, "somewhat", False, 0) for item in "012"),
            (2, "3", "no", False, 0),
        ],
    )
    rows = tables.coco_rows([quality, alignment])
    figures = {row[:3]: row.estimate and row.estimate.mean for row in rows}
    assert figures == {
        ("original", "original", "photorealism"): None,
        ("original", "original", "alignment"): 100.0,
        ("original", "Imagen", "photorealism"): 50.0,
        ("original", "Imagen", "alignment"): 37.5,
        ("no people", "original", "photorealism"): None,
        ("no people", "original", "alignment"): 100.0,
        ("no people", "Imagen", "photorealism"): 100.0,
        ("no people", "Imagen", "alignment"): 25.0,
    }
    lines = tables.format_coco(rows).splitlines()
    assert lines[2] == "| original | original | 50.0% | 100.0 ± 0.00 |"
    assert lines[5].startswith("| no people | Imagen | 100.0% ± 0.00 | 25.0 ± ")
    alone = tables.format_coco(tables.coco_rows([quality])).splitlines()
    assert alone[3].startswith("| original | Imagen | 50.0% ± ")
    assert alone[3].endswith(" | - |")


def test_a_table_is_of_one_comparison():
    quality = make_recorded("quality", [])
    with pytest.raises(UserError, match="two of one kind"):
        tables.coco_rows([quality, quality])
    other = make_recorded("alignment", [], names=("GLIDE", "original"))
    with pytest.raises(UserError, match="Imagen against original and GLIDE"):
        tables.coco_rows([quality, other])


def drawbench():
    def both(fidelity, alignment):
        return {"fidelity": fidelity, "alignment": alignment}

    return make_recorded(
        "drawbench",
        [
            (1, "0", both("1", "same"), False, None),
            (1, "2", both("2", "1"), True, None),
            (2, "1", both("2", "2"), False, None),
            (2, "3", both("1", "2"), True, None),
        ],
    )


def test_drawbench_has_each_category_and_all():
    rows = tables.drawbench_rows(drawbench())
    found = {row[:3]: row.estimate.mean for row in rows}
    assert found["x", "Imagen", "fidelity"] == 100.0
    assert found["y", "original", "fidelity"] == 100.0
    assert found["all categories", "Imagen", "fidelity"] == 50.0
    assert found["x", "indifferent", "alignment"] == 50.0
    assert found["x", "original", "alignment"] == 50.0
    assert found["y", "original", "alignment"] == 50.0
    assert found["y", "Imagen", "alignment"] == 50.0
    for question in ("fidelity", "alignment"):
        for category in ("all categories", "x", "y"):
            shares = [v for k, v in found.items() if k[::2] == (category, question)]
            assert sum(shares) == pytest.approx(100)
    text = tables.format_drawbench(rows)
    assert "| prefer Imagen | indifferent | prefer original | ratings |" in text
    assert "| fidelity | y | 0.0 (0.0 to 0.0) | 0.0 (0.0 to 0.0) | 100.0 " in text
    assert tables.agreement(drawbench()) == {"fidelity": None, "alignment": None}


def test_without_answers_there_are_lines_and_no_figures(tmp_path):
    for study, make in [
        (make_recorded("drawbench", []), tables.drawbench_rows),
        (make_recorded("quality", []), lambda study: tables.coco_rows([study])),
    ]:
        rows = make(study)
        assert {row.estimate for row in rows} == {None}
        plot_rows(rows, tmp_path / f"{study.kind}.png")
        assert "0 raters began" in tables.format_raters(study, judge_raters(study))
    assert "| 50.0% | - |" in tables.format_coco(rows)


def test_csv_files_hold_every_answer_and_no_link(tmp_path):
    study = drawbench()
    rows = tables.drawbench_rows(study)
    files = tables.write_csv_files(tmp_path / "out", rows, [study])
    names = ["table.csv", "raters_drawbench.csv", "answers_drawbench.csv"]
    assert [file.name for file in files] == names
    table, raters, answers = (
        list(csv.DictReader(file.read_text("utf-8").splitlines())) for file in files
    )
    assert len(table) == 18
    first = table[0]
    assert (first["set"], first["measure"]) == ("all categories", "fidelity")
    assert float(first["low"]) <= float(first["mean"]) <= float(first["high"])
    assert [row["is_kept"] for row in raters] == ["True", "True"]
    assert len(answers) == 8
    assert {row["prompt"] for row in answers} == set(PROMPTS)
    assert [row["value"] for row in answers[:2]] == ["-1.0", "0.0"]
    plot_rows(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
