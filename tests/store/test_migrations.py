"""Migrations: every table as the code knows it, older stores brought up, newer ones refused."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.store.arrivals import chat, signal

from palate.store import database, migrations
from palate.store.database import Store, StoreError
from palate.store.items import Item
from palate.store.leasing import lease
from palate.store.migrations import VERSION, migrate, version_of
from palate.store.reading import counts, find
from palate.store.schema import METADATA

TYPES = {"TEXT": sa.Text, "INTEGER": sa.Integer, "BIGINT": sa.BigInteger}


def test_a_new_store_has_the_tables_that_the_code_knows(store: Store) -> None:
    inspector = sa.inspect(store.engine)
    assert set(inspector.get_table_names()) == {*METADATA.tables, "palate_version"}
    for name, table in METADATA.tables.items():
        found = {column["name"]: column for column in inspector.get_columns(name)}
        assert list(found) == [column.name for column in table.columns], name
        for column in table.columns:
            kind = TYPES[str(found[column.name]["type"])]
            # SQLite calls 64 bits what it is told to call so.
            assert isinstance(column.type, kind) or kind is sa.Integer, (name, column.name)
            required = not found[column.name]["nullable"] or column.primary_key
            assert required == (not column.nullable), (name, column.name)
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        assert key == [column.name for column in table.primary_key], name
        indexes = {i["name"]: i["column_names"] for i in inspector.get_indexes(name)}
        expected = {i.name: [c.name for c in i.columns] for i in table.indexes}
        assert indexes == expected, name


def test_a_store_of_an_older_version_keeps_its_rows(
    store: Store, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([chat("a?", "yes", ids=("x:1",), label=True)], "log")
    before = counts(store)
    later = (
        *migrations.MIGRATIONS,
        ("notes", "ALTER TABLE interaction ADD COLUMN note TEXT; CREATE TABLE n (a {serial})"),
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", later)
    monkeypatch.setattr(migrations, "VERSION", VERSION + 1)
    with store.writing() as connection:
        assert migrate(connection, VERSION + 1) == VERSION
    with store.writing() as connection:
        assert migrate(connection, VERSION + 1) == VERSION + 1, "and nothing the second time"
    with store.reading() as connection:
        assert version_of(connection) == VERSION + 1
        notes = connection.execute(sa.text("SELECT note FROM interaction")).scalars().all()
        assert notes == [None]
        names = connection.execute(sa.text("SELECT name FROM palate_version ORDER BY version"))
        assert names.scalars().all() == [
            "interactions and events",
            "leases of annotators",
            "indexes of the pages",
            "notes",
        ]
    assert counts(store) == before

    monkeypatch.setattr(migrations, "VERSION", VERSION)
    with pytest.raises(StoreError, match=f"version {VERSION + 1} and this Palate knows {VERSION}"):
        Store.open(place)


def test_a_store_of_the_first_version_gets_leases(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as old:
        old.setattr(database, "VERSION", 1)
        old.setattr(database, "migrate", lambda connection: migrate(connection, 1))
        with Store.open(place) as store:
            assert not sa.inspect(store.engine).has_table("lease")
            rows = [chat("a?", "yes", "no", ids=("x:1",)), signal("x:1", "thumb", label=True)]
            store.add(rows, "log")
            before = find(store, "x:1")
    with Store.open(place) as store:
        inspector = sa.inspect(store.engine)
        assert inspector.has_table("lease")
        assert "event_author" in {index["name"] for index in inspector.get_indexes("event")}
        with store.reading() as connection:
            assert version_of(connection) == VERSION
        assert find(store, "x:1") == before
        item = Item(before.id, (0, 1))
        assert lease(store, "ann", [(item, 1)], 10) == item


def test_a_store_of_the_second_version_gets_the_indexes_of_the_pages(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as old:
        old.setattr(database, "VERSION", 2)
        old.setattr(database, "migrate", lambda connection: migrate(connection, 2))
        with Store.open(place) as store:
            store.add([chat("a?", "yes", ids=("x:1",), label=True)], "log")
            before = counts(store)
            known = {index["name"] for index in sa.inspect(store.engine).get_indexes("interaction")}
            assert "interaction_recent" not in known
    with Store.open(place) as store:
        known = {index["name"] for index in sa.inspect(store.engine).get_indexes("interaction")}
        assert "interaction_recent" in known
        assert "event_kind" in {
            one["name"] for one in sa.inspect(store.engine).get_indexes("event")
        }
        assert counts(store) == before


def test_a_migration_that_fails_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ("broken", "CREATE TABLE half (a TEXT); CREATE TABLE half (a TEXT)")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
    with (
        pytest.raises((sa.exc.DBAPIError, StoreError)),
        store.writing() as connection,
    ):
        migrate(connection, VERSION + 1)
    assert not sa.inspect(store.engine).has_table("half")
    with store.reading() as connection:
        assert version_of(connection) == VERSION
