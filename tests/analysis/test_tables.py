"""Tables: what stands in a cell, how summaries become a table, and how README gets it."""

import nbformat
import numpy as np
import pandas as pd
import pytest
from drawn import curve, log_of, made
from matplotlib.lines import Line2D

from helpers.analysis import (
    Table,
    agreement,
    beside,
    count,
    dots,
    error,
    falls_below,
    forest,
    lines,
    number,
    p_value,
    percent,
    points,
    pruned_text,
    rules,
    share,
    show,
    side_by_side,
    summary,
    text,
    texts,
    times,
    whole_percent,
    wide,
)
from helpers.analysis.notebook import named_tables
from helpers.foundations.errors import UserError
from helpers.foundations.markdown import with_tables

# Cells


@pytest.mark.parametrize(
    ("form", "ends", "said"),
    [
        (percent, (0.9857, 0.9849, 0.9865), "98.57 ± 0.08"),
        (percent, (0.5, np.nan, np.nan), "50.00"),
        (percent, (np.nan, np.nan, np.nan), ""),
        (error, (0.9857, 0.9849, 0.9865), "1.43 ± 0.08"),
        (points, (-0.0012, -0.002, -0.0004), "-0.12 ± 0.08"),
        (points, (0.01, np.nan, np.nan), "+1.00"),
        (number, (1360, 1292, 1428), "1,360 ± 68"),
        (count, (136.6, 123.2, 150.0), "136.6 ± 13.4"),
        (times, (3.11, 1.98, 4.9), "3.11 × (1.98 to 4.90)"),
        (times, (3.11, np.nan, np.nan), "3.11 ×"),
        (whole_percent, (0.58, 0.49, 0.65), "58 % (49 to 65)"),
        (whole_percent, (np.nan, 0.49, 0.65), ""),
    ],
)
def test_a_mean_and_its_interval_as_a_text(form, ends, said):
    assert form(*ends) == said


def test_shares_and_probabilities():
    assert [share(value) for value in (0.995, 0.9, 0.0358322, 0, np.nan)] == [
        "99.5 %",
        "90 %",
        "3.58 %",
        "0 %",
        "",
    ]
    assert [pruned_text(*of) for of in (("unit", 0.97), ("", 0.5), ("weight", np.nan))] == [
        "97 % of units",
        "",
        "",
    ]
    assert [p_value(p) for p in (0.04449, 0.0009, np.nan)] == ["0.044", "< 0.001", ""]


# Tables


def test_a_summary_becomes_a_table_with_the_words_of_the_config():
    rows = made(target=[0.9, 0.5], arm=["b", "a"])
    labels = {"arm": {"values": {"b": "second", "a": "first"}}}
    table = wide(summary(rows, ["target", "arm"]), "target", "arm", log=log_of(rows, labels=labels))
    assert list(table.columns) == ["second", "first"]
    assert list(table.index) == ["50 %", "90 %"]
    own = rows.query("target == 0.5 and arm == 'a'")
    assert table.loc["50 %", "first"] == text(own)
    few = rows.query("arm == 'b' or target == 0.5")
    assert wide(summary(few, ["target", "arm"]), "target", "arm").loc["90 %", "a"] == ""


def test_a_cell_that_would_hold_several_is_told():
    found = summary(made(target=[0.5], arm=["a", "b"], kind=["weight", "unit"]), ["target", "arm", "kind"])
    with pytest.raises(
        UserError, match="one row a cell of target, arm, found several; select one value of kind"
    ):
        wide(found, "target", "arm")


def test_summaries_stand_side_by_side_joined_by_their_groups():
    rows = made(arm=["a", "b", "c"])
    found = summary(rows, "arm")
    some = found[found["arm"] != "b"].assign(words=["x", "y"])
    table = side_by_side("arm", {"accuracy": (found, percent), "said": (some, "words"), "n": (found, "n")})
    assert table["arm"].tolist() == ["a", "b", "c"]
    assert table["accuracy"].tolist() == [text(rows[rows["arm"] == arm]) for arm in "abc"]
    assert table["said"].tolist() == ["x", "", "y"]
    assert table["n"].tolist() == [3, 3, 3]
    labels = {"arm": {"values": {"a": "first"}}}
    named = side_by_side("arm", {"n": (found, "n")}, log_of(rows, labels=labels))
    assert named["arm"].tolist() == ["first", "b", "c"]
    with pytest.raises(UserError, match="said: expected one row each arm, found several"):
        side_by_side("arm", {"said": (pd.concat([found, found]), percent)})


def test_a_named_table_goes_from_the_notebook_into_readme(tmp_path):
    frame = pd.DataFrame({"a": ["1 | 2", None], "b": [3, 4]}, index=pd.Index(["x", "y"], name="row"))
    table = Table(frame, "mine")
    shown = "| row | a | b |\n| --- | --- | --- |\n| x | 1 \\| 2 | 3 |\n| y |  | 4 |\n"
    assert table.markdown() == shown
    outputs = [
        nbformat.v4.new_output("display_data", {"text/markdown": t._repr_markdown_()})
        for t in (table, Table(frame))
    ]
    cell = nbformat.v4.new_code_cell("x", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    tables = named_tables(tmp_path / "one.ipynb")
    assert tables == {"mine": shown}
    readme, path = "before\n<!-- table mine -->\nstale\n<!-- end -->\nafter\n", tmp_path / "README.md"
    filled = with_tables(readme, tables, path)
    assert filled == f"before\n<!-- table mine -->\n{shown}<!-- end -->\nafter\n"
    assert with_tables(filled, tables, path) == filled
    with pytest.raises(UserError, match="expected one of mine, found table 'yours'"):
        with_tables(readme.replace("mine", "yours"), tables, path)
    one_row = with_tables(readme.replace("mine -->", "mine of y -->"), tables, path)
    assert one_row.splitlines()[2:-2] == [*shown.splitlines()[:2], "| y |  | 4 |"]
    with pytest.raises(UserError, match="expected a row of table mine, found 'z'"):
        with_tables(readme.replace("mine -->", "mine of y; z -->"), tables, path)


# Published beside measured

AGREEMENTS = {
    "yes": [(0.3, 0.45), (0.38, 0.45), (0.3, 0.38)],
    "undecided": [(-0.1, 0.5), (0, 0.38)],
    "no": [(-0.1, 0.3), (-0.3, -0.1)],
    "less": [(0.1, 0.3)],
    "more": [(0.4, 0.5)],
    "one seed": [(np.nan, np.nan)],
}


@pytest.mark.parametrize(("word", "ends"), [(word, ends) for word in AGREEMENTS for ends in AGREEMENTS[word]])
def test_agreement_needs_the_published_value_inside_and_no_effect_outside(word, ends):
    assert agreement(*ends, 0.38) == word
    assert agreement(*np.add(ends, 2), 2.38, none=2.0) == word
    assert agreement(*ends, np.nan) == ""


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        ("yes", (0.31, 0.4)),
        ("yes", (0.2, 0.5)),
        ("less", (0.1, 0.2)),
        ("undecided", (-0.1, 0.4)),
        ("no", (-0.1, 0.2)),
    ],
)
def test_agreement_with_more_than_a_value(word, ends):
    assert agreement(*ends, 0.3, is_bound=True) == word


@pytest.mark.parametrize(
    ("means", "highs", "expected"),
    [
        ([0.1, -0.1, -0.2], [0.2, 0.1, -0.1], (0.5, 0.2)),
        ([-0.1, 0.1, -0.2], [0.2, 0.3, 0.1], (0.2, 0)),
        ([-0.1, -0.1, 0.1], [-0.05, -0.05, 0.2], (0, 0)),
        ([-0.1, -0.1, -0.1], [np.nan] * 3, (0.8, np.nan)),
    ],
)
def test_from_which_level_on_differences_are_below_0(means, highs, expected):
    gaps = pd.DataFrame({"kept": [0.8, 0.5, 0.2], "mean": means, "high": highs})
    assert falls_below(gaps.sample(frac=1, random_state=0), "kept") == pytest.approx(expected, nan_ok=True)


# Marks that tables' numbers come with


def test_a_forest_has_a_diamond_over_its_levels_and_says_its_verdicts():
    rows = made(contrast=["a", "b"], level=[None, 0.5, 0.9]).assign(status="ok")
    rows["difference"] = np.where(rows["contrast"] == "a", 0.002, -0.015) + 0.0001 * rows["seed"]
    ax = show("", forest(rows, verdicts={"a": "helps"}), log_of(rows)).axes[0]
    diamonds = [line for line in ax.lines if isinstance(line, Line2D) and line.get_marker() == "D"]
    (drawn,) = diamonds
    assert drawn.get_xdata() == pytest.approx([0.21, -0.985])  # what is beyond a point stands at the edge
    assert "-1.5" in [note.get_text() for note in ax.texts]
    assert "helps" in [note.get_text() for note in ax.texts]
    assert ax.get_xlim() == (-1, 1)


def test_upright_rules_take_the_colours_of_the_lines():
    rows = made(lr=[0.001, 0.01], arm=["a", "b"])
    ends = pd.DataFrame({"lr": [0.01, np.nan], "arm": ["b", "a"]})
    ax = show("", lines(rows, "lr", hue="arm", band=False) + rules(ends, "lr", "arm"), log_of(rows)).axes[0]
    upright = [line for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in upright] == [0.01]
    assert upright[0].get_color() == curve(ax, "b").get_color()


def test_dodged_lines_stand_beside_one_another_and_others_do_not():
    rows = made(arm=["a", "b"], lr=[0.001, 0.01])
    for dodge in (True, False):
        panel = lines(rows, "lr", hue="arm", whisker=True, dodge=dodge)
        ax = show("", panel, log_of(rows)).axes[0]
        places = [container.lines[0].get_xdata() for container in ax.containers]
        assert (places[0] != places[1]).all() == dodge
        assert places[0] == pytest.approx([0.001, 0.01])


def test_dots_beyond_reach_are_shown_at_the_edge_with_their_number():
    rows = made(arm=["near", "far"]).assign(difference=lambda r: np.where(r["arm"] == "far", 0.03, 0.002))
    ax = show("", dots(rows, "difference", "arm", reach=1), log_of(rows)).axes[0]
    (drawn,) = [container.lines[0] for container in ax.containers]
    assert drawn.get_xdata() == pytest.approx([0.2, 0.985])
    assert [note.get_text() for note in ax.texts] == ["+3.0"]


# What cannot be a table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (0.0358, "3.58 %"),
        (0.98, "98 %"),
        (0.9995, "99.95 %"),
        (0.99999, "99.999 %"),
        (1, "100 %"),
    ],
)
def test_only_all_of_it_is_a_hundred_percent(value, text):
    assert share(value) == text


def test_what_cannot_be_a_table_is_told():
    found = pd.DataFrame({"arm": ["a", "b"], "target": [0.5, 0.5], "mean": [0.9, 0.8]})
    with pytest.raises(UserError, match=r"expected the format of a number, such as .*, found 'zz'"):
        texts(found, "zz")
    with pytest.raises(UserError, match="table, here: column: unknown 'amr'; did you mean 'arm'"):
        side_by_side("amr", {"here": (found, ".1f")})
    with pytest.raises(UserError, match="column: unknown 'kind'"):
        beside(found, found)


def test_two_columns_of_one_name_are_told():
    rows = made(target=[0.5, 0.9], arm=["a", "b"])
    log = log_of(rows, labels={"arm": {"values": {"a": "same", "b": "same"}}})
    found = summary(rows, ["target", "arm"])
    assert list(wide(found, "target", "arm")) == ["a", "b"]
    with pytest.raises(UserError, match="a name of its own for each column, found 'same' twice"):
        wide(found, "target", "arm", log=log)
