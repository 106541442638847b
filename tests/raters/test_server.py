"""The pages over HTTP: state, blinding, escaping, forged and replayed requests."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagen_jax.raters.limits import RateLimit
from imagen_jax.raters.recorded import read_recorded
from tests.raters.studies import (
    NO,
    YES,
    Client,
    position_on,
    served,
    write_pairs,
    write_sets,
)

SCRIPT = "<script>alert(1)</script>\" onload='x' & {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """A quality study without controls."""
    folder = tmp_path_factory.mktemp("pairs") / "study"
    return write_pairs(folder, "quality", [(150, YES)] * 6, num_controls=0)


@pytest.fixture(scope="module")
def site_and_links(pairs):
    with served(pairs, num_raters=40) as result:
        yield result


@pytest.fixture
def client(site_and_links):
    """A rater that no other test uses, who has agreed."""
    site, links = site_and_links
    link = next(
        link
        for link in links
        if not site.store.find_rater(link.rpartition("/")[2]).consented
    )
    client = Client(link)
    client.begin()
    yield client
    client.close()


def test_a_rater_agrees_answers_each_page_once_and_is_thanked(site_and_links):
    site, links = site_and_links
    client = Client(links[-1])
    first = client.page()
    assert "I agree, begin" in first
    assert position_on(first) is None
    assert client.ask("GET", f"{client.path}/picture/0/0")[0] == 404  # not yet
    assert client.answer(position=0, quality="1") == 303
    assert "I agree, begin" in client.page()  # an answer before consent is none
    client.begin()
    for position in range(6):
        page = client.page()
        assert position_on(page) == position
        assert client.page() == page  # a reload changes nothing
        assert f"Page {position + 1} of 6" in page
        assert client.answer(position=position, quality="12"[position % 2]) == 303
    assert "Thank you" in client.page()
    given = [
        answer.answer
        for answer in read_recorded(site.study.folder).answers
        if answer.rater == len(links)
    ]
    assert given == ["1", "2"] * 3
    client.close()


def test_an_answer_counts_once_and_the_first_one_stands(client, site_and_links):
    site, _ = site_and_links
    assert client.answer(position=0, quality="1") == 303
    assert client.answer(position=0, quality="1") == 303  # sent twice: the same
    status, _, body = client.ask(
        "POST", f"{client.path}/answer", {"position": 0, "quality": "2"}
    )
    assert status == 409
    assert b"Your first answer stands" in body
    assert client.answer(position=3, quality="1") == 409  # not next
    rater = site.store.find_rater(client.path.rpartition("/")[2])
    assert rater.position == 1
    found = [a for a in read_recorded(site.study.folder).answers if a.rater == rater.id]
    assert [(a.position, a.answer) for a in found] == [(0, "1")]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"position": 0},
        {"quality": "1"},
        {"position": 0, "quality": "3"},
        {"position": 0, "quality": ""},
        {"position": -1, "quality": "1"},
        {"position": "x", "quality": "1"},
        {"position": "1e3", "quality": "1"},
        {"position": "٣", "quality": "1"},
        {"position": "9" * 30, "quality": "1"},
        {"position": 0, "quality": "1", "more": "1"},
        b"position=0&position=1&quality=1",
        b"position=0&quality=\xff\xfe",
        b"%00",
        b"&".join(b"a%d=1" % i for i in range(100)),
    ],
)
def test_what_is_no_answer_is_refused_and_changes_nothing(client, form):
    assert client.ask("POST", f"{client.path}/answer", form)[0] == 400
    assert position_on(client.page()) == 0


def test_a_long_body_is_refused(client):
    body = b"position=0&quality=" + b"1" * 100_000
    assert client.ask("POST", f"{client.path}/answer", body)[0] == 413
    assert position_on(client.page()) == 0


def test_forged_links_open_nothing(client, site_and_links):
    _, links = site_and_links
    token = client.path.rpartition("/")[2]
    assert len(token) == 32
    assert len({link for link in links}) == len(links)
    for forged in ("x", token[:-1], token + "a", token.swapcase(), "%00", "'%20OR%201"):
        for method, path in [
            ("GET", ""),
            ("POST", "/begin"),
            ("POST", "/answer"),
            ("GET", "/picture/0/0"),
        ]:
            form = {"position": 0, "quality": "1"} if path == "/answer" else None
            status, _, body = client.ask(method, f"/r/{forged}{path}", form)
            assert status in (404, 429), (forged, path)
            assert b"picture/0" not in body


def test_no_path_leads_to_a_file(client, pairs):
    secret = b"name,prompt"
    assert secret in (pairs / "prompts.csv").read_bytes()
    for path in (
        "/../prompts.csv",
        "/..%2fprompts.csv",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/style.css",
        "/answers.sqlite",
        "/links.csv",
        "/pages.py",
        "/docs",
        "/openapi.json",
        "//etc/passwd",
        f"{client.path}/picture/0/../../../../etc/passwd",
        f"{client.path}/picture/0/..%2f..%2fprompts.csv",
        f"{client.path}/picture/..%2f/0",
        f"{client.path}/picture/0/2",
        f"{client.path}/picture/0/-1",
        f"{client.path}/picture/1/0",  # a trial that is not shown yet
        f"{client.path}/picture/0/model%2fscene0.png",
    ):
        status, headers, body = client.ask("GET", path)
        assert status == 404, path
        assert headers["content-type"].startswith("text/html"), path
        assert b"This page does not exist" in body
        assert secret not in body


def test_pages_load_nothing_from_elsewhere_and_do_not_leak_the_link(client):
    for path in (client.path, "/", "/style.css", "/keys.js", "/nothing"):
        _, headers, body = client.ask("GET", path)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        for outside in (b"http:", b"https:", b"url(", b"@import", b"<style", b"style="):
            assert outside not in body
    assert client.ask("GET", client.path)[1]["cache-control"] == "no-store"


def test_a_rater_cannot_tell_the_systems_apart(client, site_and_links):
    """Neither from the page nor from the bytes of a picture."""
    site, _ = site_and_links
    page = client.page()
    for word in ("scene", "model", "reference", "Imagen", "original", ".png"):
        assert word not in page
    sent = [client.ask("GET", f"{client.path}/picture/0/{i}") for i in (0, 1)]
    names = [{*headers} for _, headers, _ in sent]
    assert names[0] == names[1]
    assert sent[0][2] != sent[1][2]
    assert all("etag" not in headers for _, headers, _ in sent)
    rater = site.store.find_rater(client.path.rpartition("/")[2])
    trial = site.store.trial(rater.id, 0)
    with Image.open(io.BytesIO(sent[0][2])) as image:
        assert (image.getpixel((0, 0))[0] == 128) == trial.swapped


def test_metadata_and_format_of_a_picture_are_not_sent(tmp_path):
    folder = write_pairs(tmp_path, "quality", [(150, YES)], num_controls=0)
    path = folder / "model" / "scene0.png"
    note = PngInfo()
    note.add_text("Software", "imagen sampler")
    with Image.open(path) as image:
        image.save(path, pnginfo=note)
    with Image.open(folder / "reference" / "scene0.png") as image:
        image.save(folder / "reference" / "scene0.jpg", quality=95)
    (folder / "reference" / "scene0.png").unlink()
    with served(folder, 1) as (_, links):
        client = Client(links[0])
        client.begin()
        for index in (0, 1):
            _, headers, body = client.ask("GET", f"{client.path}/picture/0/{index}")
            assert headers["content-type"] == "image/png"
            assert body.startswith(b"\x89PNG")
            assert b"sampler" not in body
            assert b"tEXt" not in body
        client.close()


@pytest.mark.parametrize("kind", ["alignment", "drawbench"])
def test_script_in_captions_and_settings_is_text(tmp_path, kind):
    texts = {"title": "T <b>bold</b>", "contact": "<i>me</i>", "consent": "<u>c</u>"}
    if kind == "alignment":
        truth = [(150, YES)]
        write_pairs(tmp_path, kind, truth, [SCRIPT], num_controls=0, **texts)
    else:
        write_sets(tmp_path, {"x": [(150, NO)]}, **texts)
        table = (tmp_path / "prompts.csv").read_text()
        quoted = SCRIPT.replace('"', '""')
        table = re.sub("a white.*view 0", lambda _: quoted, table)
        (tmp_path / "prompts.csv").write_text(table)
    with served(tmp_path, 1) as (_, links):
        client = Client(links[0])
        first = client.page()
        client.begin()
        page = client.page()
        client.close()
    for tag in ("<b>", "<i>", "<u>"):
        assert tag not in first + page
    assert "&lt;u&gt;c&lt;/u&gt;" in first
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("<script") == 1  # our own


def test_the_rate_limit_holds_one_rater_and_not_the_others(pairs, tmp_path):
    clock = [0.0]
    limit = RateLimit(burst=5, per_sec=1.0, clock=lambda: clock[0])
    guesses = RateLimit(burst=3, per_sec=1.0, clock=lambda: clock[0])
    folder = write_pairs(tmp_path, "quality", [(150, YES)], num_controls=0)
    with served(folder, 2, raters_limit=limit, guesses_limit=guesses) as (_, links):
        one, other = map(Client, links)
        seen = [one.ask("GET", one.path)[0] for _ in range(8)]
        assert seen == [200] * 5 + [429] * 3
        assert one.ask("POST", f"{one.path}/begin")[0] == 429
        assert other.ask("GET", other.path)[0] == 200
        guessed = [other.ask("GET", f"/r/guess{i}")[0] for i in range(5)]
        assert guessed == [404] * 3 + [429] * 2
        assert other.ask("GET", other.path)[0] == 200  # a good link still works
        clock[0] = 2.0
        assert [one.ask("GET", one.path)[0] for _ in range(3)] == [200, 200, 429]
        one.close()
        other.close()


def test_a_limit_forgets_the_key_that_was_quiet_longest():
    clock = [0.0]
    limit = RateLimit(burst=1, per_sec=0.0, max_keys=2, clock=lambda: clock[0])
    assert [limit.allow(key) for key in "aab"] == [True, False, True]
    assert limit.allow("c")  # a is forgotten
    assert not limit.allow("b")
    assert limit.allow("a")


def test_keys_and_sizes_of_a_drawbench_page(tmp_path):
    write_sets(tmp_path, {"Colors": [(150, YES)]})
    with served(tmp_path, 1) as (_, links):
        client = Client(links[0])
        client.begin()
        page = client.page()
        addresses = re.findall(r'src="([^"]+/picture/[^"]+)"', page)
        assert len(set(addresses)) == 16
        pictures = [client.ask("GET", address) for address in addresses]
        assert {status for status, _, _ in pictures} == {200}
        assert len({body for _, _, body in pictures}) == 16
        assert re.findall(r'data-key="(\d)"', page) == list("123456")
        assert client.answer(position=0, fidelity="1") == 400  # one of two questions
        assert client.answer(position=0, fidelity="1", alignment="same") == 303
        assert "Thank you" in client.page()
        client.close()
