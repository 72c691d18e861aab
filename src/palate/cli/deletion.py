"""`palate data delete`: content out of the store, and out of the snapshots made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from palate.config import ConfigError
from palate.progress import reporter_for


def run_delete(db: str, user: str | None, ids: Sequence[str], *, sure: bool, as_json: bool) -> None:
    """Erase a user's interactions, or those named; then clean snapshots, and name the runs."""
    from palate.store.database import Store
    from palate.store.erasing import erase, erase_user, everything_erased
    from palate.store.ledger import clean, holders
    from palate.store.reading import find

    if (user is None) == (not ids):
        raise ConfigError("say whose, or what: --user USER, or --id ID (see palate data search)")
    with Store.open(db, create=False) as store:
        keys = [find(store, beginning).id for beginning in ids]
        what = f"all that user {user} said and was told" if user is not None else ", ".join(keys)
        if not sure and not typer.confirm(f"Erase {what} from {store.name}, for good?", err=True):
            raise ConfigError("nothing was erased")
        erased = erase_user(store, user) if user is not None else erase(store, keys)
        gone = everything_erased(store)  # also what an earlier deletion could not clean
        found = holders(store, gone)
        cleaned = {
            str(one.folder): clean(store, one, gone).content_hash
            for one in found
            if one.kind == "snapshot" and (one.examples or one.rejects)
        }
    of_runs = [one for one in found if one.kind == "run"]
    runs = [str(one.folder.parent) for one in of_runs if one.examples]
    listing = [str(one.folder.parent) for one in of_runs if one.rejects and not one.examples]
    unread = {str(one.folder): one.problem for one in found if one.examples is None}
    if as_json:
        body = {
            "interactions": list(erased.interactions),
            "events": erased.events,
            "snapshots": cleaned,
            "runs": runs,
            "listing": listing,
            "unreadable": unread,
        }
        typer.echo(json.dumps(body, ensure_ascii=False))
        return
    say = reporter_for()
    say.note(f"erased {len(erased.interactions)} interactions and {erased.events} events")
    for folder, content in cleaned.items():
        say.note(f"snapshot {folder} was made anew without them: hash {content}")
    for run in runs:
        say.note(
            f"run {run} has learned from them: its data, its samples and its weights know them; "
            "delete it, and train anew"
        )
    for run in listing:
        say.note(f"run {run} quotes them among the rows that it left out: delete the run")
    for folder, problem in unread.items():
        say.note(f"! {folder} could not be looked into: {problem}")
