import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.errors import UserError
from imagen_jax.text.cleaning import KINDS, clean


@given(st.text())
def test_none_changes_nothing(caption):
    assert clean("none", caption) == caption


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("  a \t red\n\n fox\u00a0on&nbsp;a hill ", "a red fox on a hill"),
        ("fish &amp; chips &#38; &#x26; &quot;salt&quot;", 'fish & chips & & "salt"'),
        (
            "a <b class='x'>red</b> fox<br/>on<!-- a\nnote -->grass",
            "a red fox on grass",
        ),
        ("&lt;i&gt;fox&lt;/i&gt;", "fox"),  # entities first: a page's escaped tags
        ("&amp;lt;", "&lt;"),  # once
        ("a fox https://x.org/a?b=1&c=2#d www.x.org HTTP://X.ORG red", "a fox red"),
        ('see "https://x.org" (www.x.org) now', 'see "" () now'),
        ("<p> </p>", ""),
        ("", ""),
    ],
)
def test_basic_cleans(caption, expected):
    assert clean("basic", caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "A sign that says \"Hello, WORLD!\" and 'it's OPEN'",  # trap T29
        "2 < 3 and 5 > 4",
        "fish&chips, R&notes; no",
        "AT&T, Inc.; #fox @owl 100%",
        "ahttp://x is no address",
        "狐と梟 🦊",
    ],
)
def test_basic_keeps_text(caption):
    assert clean("basic", caption) == caption


@given(st.text(alphabet=" \t\n\u00a0\u2003ab<>&;/\"'A"))
def test_basic_leaves_single_spaces_inside_only(caption):
    cleaned = clean("basic", caption)
    assert cleaned == " ".join(cleaned.split())


def test_an_unknown_kind_is_named():
    assert KINDS == ("none", "basic")
    with pytest.raises(UserError, match="is 'strong'; give one of none, basic"):
        clean("strong", "a fox")
