"""From a study's folder to a running server, and back to it after any end."""

import csv
import os
from contextlib import closing
from pathlib import Path

from imagen_jax.errors import UserError
from imagen_jax.raters.frozen import check_unchanged
from imagen_jax.raters.plan import plan_trials
from imagen_jax.raters.server import Site, make_app
from imagen_jax.raters.store import Store, only_server
from imagen_jax.raters.study import Study, check_pictures, read_study
from imagen_jax.web import listen, make_server


def serve_study(
    folder: Path, num_raters: int, host: str, port: int, url: str | None
) -> None:
    """Serves the study until the process is told to stop.

    Args:
      folder: of the study. The links go to links.csv in it.
      num_raters: links to have in all.
      host: address to listen on.
      port: to listen on; 0 takes a free one.
      url: how raters reach the server; None takes host and port.

    Raises:
      UserError: if the study cannot be read or has changed since it began, another
        server has it, or the address or the disk cannot be used.
    """
    if num_raters < 1:
        raise UserError(f"--raters is {num_raters}; a study needs 1 rater at least")
    if host in ("0.0.0.0", "::", "") and url is None:
        raise UserError(
            f"--host is {host!r}, which raters cannot open; say how they reach this "
            "machine, e.g. --url=https://raters.example.org"
        )
    with only_server(folder), listen(host, port) as listener:
        study = read_study(folder)
        with closing(Store(folder)) as store:
            prepare(study, store, num_raters)
            base = (url or f"http://{host}:{listener.getsockname()[1]}").rstrip("/")
            links = [f"{base}/r/{token}" for token in store.tokens()]
            path = write_links(folder, links)
            print(
                f"serving {folder} at {base}: {len(links)} links in {path}", flush=True
            )
            make_server(make_app(Site(study, store))).run(sockets=[listener])


def prepare(study: Study, store: Store, num_raters: int) -> None:
    """Checks the study, writes it down if it is new, and adds raters up to a number."""
    began, now = store.manifest(), study.manifest()
    if began is None:
        check_pictures(study)
    else:
        check_unchanged(study.folder, began, now)
    store.add_raters(
        num_raters,
        lambda rater, counts: plan_trials(study, rater, counts),
        now if began is None else None,
    )


def write_links(folder: Path, links: list[str]) -> Path:
    """Writes links.csv, readable by its owner only; returns its path."""
    path = folder / "links.csv"
    partial = path.with_suffix(".partial")
    try:
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(handle, "w", newline="") as file:
            csv.writer(file).writerows([("rater", "link"), *enumerate(links, 1)])
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); a study's folder must be "
            "writable, and its disk not full"
        ) from error
    return path
