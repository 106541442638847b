"""The paper's Table 1: its figures, and where a new row stands."""

import pytest

from imagen_jax.evaluation.paper_tables import (
    TABLE_1,
    Row,
    format_table_1,
    protocol_notes,
)


def models(text):
    """Returns the table's lines with a figure: marked or not, the model, the figure."""
    rows = [line.split() for line in text.splitlines()]
    return [
        row for row in rows if row[-1].replace(".", "").isdigit() and "." in row[-1]
    ]


def test_the_papers_figures():
    assert len(TABLE_1) == 12
    assert Row("Imagen", 7.27, zero_shot=True) in TABLE_1
    assert Row("LAFITE", 8.12, zero_shot=False) in TABLE_1
    assert Row("LAFITE", 26.94, zero_shot=True) in TABLE_1


@pytest.mark.parametrize(
    ("zero_shot", "above", "below"),
    [(True, "10.39", "7.27"), (False, "9.33", "8.12")],
)
def test_a_fid_stands_in_its_place(zero_shot, above, below):
    text = format_table_1(Row("mine", 9.0, zero_shot), "FID (Inception-v3)", True)
    figures = [row[-1] for row in models(text)]
    place = figures.index("9.00")
    assert (figures[place - 1], figures[place + 1]) == (above, below)
    assert text.count(" mine ") == 1
    assert "> mine" in text


def test_another_measure_stands_below_and_says_so():
    row = Row("mine", 9.0, zero_shot=True)
    text = format_table_1(row, "FID-like (EfficientNet-Lite0)", False, ["Few."])
    lines = text.splitlines()
    assert models(text)[-1] == [">", "mine", "9.00"]
    assert models(text)[-2][-1] == "7.27"
    assert [row[-1] for row in models(text)].count("9.00") == 1
    assert "not comparable" in lines[-4]
    assert lines[-1].strip() == "Few."


def test_departures_from_the_protocol_are_named():
    assert protocol_notes(30_000, 256, 2014) == []
    notes = " ".join(protocol_notes(500, 64, 2017))
    for word in ("500 pictures, not 30,000", "64 x 64 pixels, not 256", "2017"):
        assert word in notes
