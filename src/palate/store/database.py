"""The store: a database of interactions and of what was said about them.

SQLite in a file by default, PostgreSQL by URL when a team shares one. `Store.open` migrates what
an older Palate wrote. All text in it is content of users: see `erasing` for deletion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, OperationalError

from palate.durable import sync_file
from palate.records import Arrival
from palate.store.migrations import VERSION, migrate, version_of

if TYPE_CHECKING:
    from palate.store.adding import Added

DEFAULT = "palate.db"
_URL = re.compile(r"^(sqlite|postgres(ql)?)(\+\w+)?://")
_SUFFIXES = {".db", ".sqlite", ".sqlite3"}
_CACHE = 256  # MiB of pages that SQLite may hold: the indexes of a few million rows
_WAIT = 30.0  # seconds that a writer waits for another's transaction


class StoreError(ValueError):
    """A store that cannot be opened or used; one line with cause and cure."""


def is_store(place: str) -> bool:
    """Whether a path or URL names a store rather than a file of rows."""
    return bool(_URL.match(place)) or Path(place).suffix.lower() in _SUFFIXES


class Store:
    """An open store. Use it in one thread, or open another."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self._file: Path | None = None

    @classmethod
    def open(cls, place: str | Path = DEFAULT, *, create: bool = True) -> Store:
        """Open, and make or migrate where needed.

        `place` is a file, or a URL (`sqlite:///…`, `postgresql://user@host/database`). Raises
        `StoreError` if it is not there and `create` is False, cannot be reached, or is newer than
        this Palate.
        """
        url, name = _url(str(place))
        file = Path(url.database) if url.drivername.startswith("sqlite") and url.database else None
        if file is not None and not file.exists() and not create:
            raise StoreError(f"there is no store {file}: make one with palate import PATH")
        try:
            store = cls(sa.create_engine(url, **_options(file)), name)
            if file is not None:
                store._file = file.absolute()
                sa.event.listen(store.engine, "connect", _remember(store._file))
            with store.reading() as connection:
                version = version_of(connection)
            if version != VERSION:
                with store.writing() as connection:
                    migrate(connection)
        except ImportError as error:
            raise StoreError(
                f"a store at {name} needs a driver ({error}): pip install 'palate[postgres]'"
            ) from error
        except DBAPIError as error:
            raise StoreError(f"cannot open the store {name}: {_cause(error)}") from error
        except StoreError:
            raise
        except ValueError as error:
            raise StoreError(f"{name}: {error}") from error
        return store

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        """The store itself, closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file, written by one program at a time."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes; committed, and on the disk, at the end of the block."""
        with self.translated(), self.engine.begin() as connection:
            if self.is_sqlite:  # at once: a reader that turns writer can fail with "locked"
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                self._check_place(connection)
            yield connection

    def _check_place(self, connection: sa.Connection) -> None:
        """What is written to a file that was moved or deleted meanwhile would be lost."""
        if self._file is not None and connection.info["file"] != _identity(self._file):
            raise StoreError(
                f"the store {self.name} was moved, deleted or replaced while it was open: nothing "
                "is written; put it back, or start again"
            )

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the store throughout."""
        with self.translated(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
                yield connection
            else:
                yield connection.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """A failure of the database as one line."""
        try:
            yield
        except DBAPIError as error:
            # SQLite's word for a damaged file has no class of its own; the others are our mistakes.
            if isinstance(error, OperationalError | DataError) or type(error) is DatabaseError:
                raise StoreError(f"the store {self.name} failed: {_cause(error)}") from error
            raise

    def add(self, arrivals: Sequence[Arrival], source_name: str) -> Added:
        """Add what came another way than in a file; on the disk when this returns."""
        from palate.store.adding import add_rows
        from palate.store.rows import row_of
        from palate.store.sources import open_source

        source = open_source(self, source_name)
        return add_rows(self, [row_of(arrival) for arrival in arrivals], source.id)

    def expire(self, days: float) -> int:
        """Erase what is older than that many days, and say how many interactions that were."""
        from palate.store.erasing import expire

        return len(expire(self, days).interactions)

    def settle(self) -> None:
        """Empty SQLite's write-ahead log, which still holds pages as they were, for good.

        Raises `StoreError` where another program reads on from it; the log goes with the last one.
        """
        if self._file is None:
            return
        with self.translated(), self.engine.connect() as connection:
            (busy, *_) = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            if busy:
                raise StoreError(
                    f"what was deleted is erased from {self.name}, but another program reads the "
                    f"store, and until it ends {self._file.name}-wal holds the words: end it, "
                    "and delete again to be sure"
                )
            # SQLite does not flush the cut: after a power cut all of it could be there again.
            with suppress(FileNotFoundError):
                sync_file(self._file.with_name(f"{self._file.name}-wal"))

    def upsert(self, table: sa.Table) -> Any:
        """An insert into `table` that leaves rows with the same key as they are."""
        from sqlalchemy.dialects import postgresql, sqlite

        insert = sqlite.insert if self.is_sqlite else postgresql.insert
        return insert(table).on_conflict_do_nothing()


def _url(place: str) -> tuple[sa.URL, str]:
    """The URL for SQLAlchemy, and a name without password for people."""
    if not _URL.match(place):
        if "://" in place:
            raise StoreError(
                f"{place.partition('://')[0]} is no store: name a file, or a URL that begins with "
                "sqlite:/// or postgresql://"
            )
        path = Path(place).expanduser()
        if path.is_dir():
            raise StoreError(f"{path} is a folder: name a file in it, {path / DEFAULT}")
        return sa.URL.create("sqlite", database=str(path)), str(path)
    try:
        url = sa.make_url(place)
    except (ValueError, sa.exc.ArgumentError):
        hidden = re.sub(r"(?<=:)[^:@/]+(?=@)", "***", place)
        raise StoreError(
            f"{hidden} is not a URL of a database: postgresql://USER@HOST:PORT/DATABASE"
        ) from None
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    name = url.database if url.drivername.startswith("sqlite") else None
    shown = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
    return url, name or shown


def _options(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {"pool_pre_ping": True}
    if not file.parent.is_dir():
        raise StoreError(f"the folder {file.parent} of the store is not there")
    return {"connect_args": {"timeout": _WAIT}, "creator": _sqlite(file)}


def _sqlite(file: Path) -> Any:
    """Makes connections to a file: durable at each commit, readers beside a writer."""
    import sqlite3

    def connect() -> sqlite3.Connection:
        # isolation_level None: transactions begin where `writing` and `reading` say so.
        connection = sqlite3.connect(
            file, timeout=_WAIT, isolation_level=None, check_same_thread=False
        )
        for setting in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"cache_size = {-_CACHE * 1024}",
            "secure_delete = ON",  # what is erased is overwritten, not only unlinked
        ):
            connection.execute(f"PRAGMA {setting}")
        # SQLite's own knows the letters of English only.
        connection.create_function("lower", 1, _lower, deterministic=True)
        return connection

    return connect


def _remember(file: Path) -> Any:
    """Notes of each new connection which file it has open."""

    def note(_connection: Any, record: Any) -> None:
        record.info["file"] = _identity(file)

    return note


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file is there, None where none is."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _cause(error: DBAPIError) -> str:
    said = " ".join(str(error.orig).split()) or type(error).__name__
    cures = {
        "database is locked": "another program is writing to it: try again",
        "file is not a database": "it is some other file: name another with --db",
        "malformed": "the file is damaged: put a backup in its place, or save what can be read "
        "with sqlite3 FILE .recover",
        "disk is full": "free some space and try again",
        "readonly": "it cannot be written: check its permissions",
        "unable to open": "check that its folder is there and can be written",
        "resolve host": "check the address",
        "onnection refused": "is the server running, and is the address right?",
        "password": "check user and password (PGPASSWORD, or ~/.pgpass)",
    }
    cure = next((cure for words, cure in cures.items() if words in said), None)
    return f"{said[:200]}: {cure}" if cure else said[:200]
