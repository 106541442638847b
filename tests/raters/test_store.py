"""Nothing acknowledged is lost: kills, crowds, full disks, a second server."""

import contextlib
import http.client
import random
import sqlite3
import stat
import threading
import time

import pytest

from imagen_jax.errors import UserError
from imagen_jax.raters.plan import Trial
from imagen_jax.raters.recorded import read_recorded
from imagen_jax.raters.store import Saved, Store, StoreError, only_server
from tests.raters.studies import (
    YES,
    Client,
    end,
    position_on,
    served,
    start_command,
    write_pairs,
)


def plan(rater, counts):
    return [Trial(f"i{k}", False, False, None) for k in range(4)]


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(Store(tmp_path)) as store:
        store.add_raters(2, plan, {"x": 1})
        yield store


def test_answers_are_written_once_and_in_order(store):
    assert store.save(1, 0, {"quality": "1"}) is Saved.NEW
    assert store.save(1, 0, {"quality": "1"}) is Saved.SAME
    assert store.save(1, 0, {"quality": "2"}) is Saved.OTHER
    assert store.save(1, 0, {"quality": "1", "more": "1"}) is Saved.OTHER
    assert store.save(1, 2, {"quality": "1"}) is Saved.NOT_NEXT
    assert store.save(1, 1, {"fidelity": "1", "alignment": "2"}) is Saved.NEW
    assert store.save(2, 0, {"quality": "2"}) is Saved.NEW
    for position in (2, 3):
        store.save(1, position, {"quality": "1"})
    with pytest.raises(StoreError, match="FOREIGN KEY"):  # beyond the plan
        store.save(1, 4, {"quality": "1"})
    token = store.tokens()[0]
    assert store.find_rater(token)[2:] == (4, 4)
    found = read_recorded(store.path.parent).answers
    assert [(a.rater, a.position, a.question, a.answer) for a in found] == [
        (1, 0, "quality", "1"),
        (1, 1, "alignment", "2"),
        (1, 1, "fidelity", "1"),
        (1, 2, "quality", "1"),
        (1, 3, "quality", "1"),
        (2, 0, "quality", "2"),
    ]


def test_raters_are_added_to_those_that_are_there(store):
    before = store.tokens()
    seen = []
    store.add_raters(4, lambda rater, counts: seen.append(dict(counts)) or plan(0, 0))
    assert store.tokens()[:2] == before
    assert len(set(store.tokens())) == 4
    assert seen[0] == {(f"i{k}", None): 2 for k in range(4)}
    assert seen[1] == {(f"i{k}", None): 3 for k in range(4)}
    assert store.add_raters(1, plan) == 4


def test_a_plan_that_fails_leaves_no_half_a_study(tmp_path):
    def fail(rater, counts):
        if rater == 1:
            raise UserError("no")
        return plan(rater, counts)

    with contextlib.closing(Store(tmp_path)) as store:
        with pytest.raises(UserError, match="no"):
            store.add_raters(3, fail, {"x": 1})
        assert store.manifest() is None
        assert store.tokens() == []
        store.add_raters(1, plan, {"x": 2})
        assert store.manifest() == {"x": 2}


def test_every_commit_reaches_the_disk_and_others_may_not_read(store):
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    for path in store.path.parent.glob("answers.sqlite*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_full_disk_is_a_sentence_and_loses_nothing(store):
    """SQLite is told that its file may not grow, which it treats as a full disk."""
    store.save(1, 0, {"quality": "1"})
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"disk is full.*the answers in it are kept"):
        store.save(2, 0, {"quality": "1" * 100_000})
    kept = read_recorded(store.path.parent).answers
    assert [(answer.rater, answer.answer) for answer in kept] == [(1, "1")]
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.save(1, 1, {"quality": "2"}) is Saved.NEW


def test_a_full_disk_pauses_raters_until_there_is_room(tmp_path, capfd):
    folder = write_pairs(tmp_path, "quality", [(150, YES)] * 3, num_controls=0)
    with served(folder, 1) as (site, links):
        client = Client(links[0])
        client.begin()
        assert client.answer(position=0, quality="1") == 303
        site.store._db.execute("PRAGMA query_only = ON")  # no write succeeds
        for _ in range(2):
            status, _, body = client.ask(
                "POST", f"{client.path}/answer", {"position": 1, "quality": "2"}
            )
            assert status == 503
            assert b"All your answers so far are kept" in body
        site.store._db.execute("PRAGMA query_only = OFF")
        assert position_on(client.page()) == 1
        assert client.answer(position=1, quality="2") == 303
        client.close()
    said = capfd.readouterr().err
    assert said.count("error: cannot write to") == 1  # once, not for every try
    assert "Traceback" not in said
    assert len(read_recorded(folder).answers) == 2


def test_a_changed_picture_pauses_raters_until_it_is_back(tmp_path, capfd):
    folder = write_pairs(tmp_path, "quality", [(150, YES)] * 2, num_controls=0)
    with served(folder, 1) as (_, links):
        client = Client(links[0])
        client.begin()
        assert client.answer(position=0, quality="1") == 303
        shown = client.page()
        was = {}
        for path in (folder / "model").iterdir():
            was[path] = path.read_bytes()
            path.write_bytes(was[path][:-20] + b"x" * 20)
        for method, path, form in [
            ("GET", "", None),
            ("POST", "/answer", {"position": 1, "quality": "1"}),
        ]:
            assert client.ask(method, client.path + path, form)[0] == 503
        sent = [client.ask("GET", f"{client.path}/picture/1/{i}")[0] for i in (0, 1)]
        assert sorted(sent) == [200, 503]
        for path in was:
            path.unlink()
        assert client.ask("GET", client.path)[0] == 503
        for path, data in was.items():
            path.write_bytes(data)
        assert client.page() == shown
        assert client.answer(position=1, quality="1") == 303
        client.close()
    said = capfd.readouterr().err
    assert "is not what it was when the study began (other contents)" in said
    assert "(No such file or directory)" in said
    assert "Traceback" not in said


def test_one_server_at_a_time(tmp_path):
    with only_server(tmp_path):
        with pytest.raises(UserError, match=r"another server is serving .*process \d+"):
            with only_server(tmp_path):
                pass
    with only_server(tmp_path):  # free again
        pass


def test_a_lock_needs_no_room_on_the_disk(tmp_path):
    """/dev/full lets itself be opened and locked, and refuses every byte."""
    (tmp_path / "serving.lock").symlink_to("/dev/full")
    with only_server(tmp_path):
        pass


def test_a_damaged_database_is_a_sentence(tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot open"):
        Store(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        read_recorded(tmp_path)
    (tmp_path / "answers.sqlite").unlink()
    with pytest.raises(UserError, match="serve the study first"):
        read_recorded(tmp_path)
    sqlite3.connect(tmp_path / "answers.sqlite").close()
    with pytest.raises(UserError, match="cannot read"):
        read_recorded(tmp_path)


class Crowd:
    """Raters who answer at once, each in a thread, and note what was acknowledged."""

    def __init__(self, links, seed):
        self.acknowledged = {}
        self.errors = []
        self._threads = [
            threading.Thread(target=self._answer, args=(i + 1, link, seed))
            for i, link in enumerate(links)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        for thread in self._threads:
            thread.join()

    def _answer(self, rater, link, seed):
        choose = random.Random(f"{seed} {rater}").choice
        client = Client(link)
        try:
            client.begin()
            while (position := position_on(client.page())) is not None:
                for index in (0, 1):
                    path = f"{client.path}/picture/{position}/{index}"
                    assert client.ask("GET", path)[0] == 200
                quality = choose("12")
                assert client.answer(position=position, quality=quality) == 303
                self.acknowledged[rater, position] = quality
        except (OSError, http.client.HTTPException) as error:  # the server was killed
            self.errors.append(error)
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            client.close()


@pytest.mark.slow
def test_50_raters_at_once_and_kills_in_mid_study(tmp_path):
    """Everything that was acknowledged is there after SIGKILL, and nothing else."""
    folder = write_pairs(
        tmp_path, "quality", [(150, YES)] * 8, num_controls=0, batch=6, size=16
    )
    known = {}
    for kill_after in (40, 120, None):
        process, links = start_command(folder, "--raters=50")
        try:
            with Crowd(links, seed=kill_after) as crowd:
                while kill_after and len(crowd.acknowledged) < kill_after:
                    time.sleep(0.005)
                if kill_after:
                    process.kill()
        finally:
            said = end(process)
        assert "Traceback" not in said
        # A killed server may have written an answer and not been able to say so.
        found = {(a.rater, a.position): a.answer for a in read_recorded(folder).answers}
        known |= crowd.acknowledged
        assert known.items() <= found.items()
        assert len(found) <= len(known) + 50
        assert (kill_after is None) == (not crowd.errors)
        known = found
    assert len(links) == 50
    assert len(known) == 50 * 6
