"""The store's tables as they are now; `migrations` brings older ones up to this.

An interaction is a prompt and the answers it got; an event is what was said about one of them.
Rows are added and never changed, except that names and a user are attached, an event that came
before its interaction is joined to it, and deletion empties a row and leaves it as a tombstone.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

# A file, or another origin, of which rows were taken. `completed` is null while it is read.
SOURCE = sa.Table(
    "source",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text),
    sa.Column("began", sa.Text, nullable=False),
    sa.Column("completed", sa.Text),
    sa.Column("summary", sa.Text),
)

# `body` is JSON: prompt, completions, tools and tags. `content` hashes what was said. Where the
# row stood (source, line, time as written, hash) is its first sighting. Of a deleted interaction
# there remain its id, its content's hash, and when it was erased.
INTERACTION = sa.Table(
    "interaction",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("body", sa.Text),
    sa.Column("user_id", sa.Text),
    sa.Column("time", sa.Text),
    sa.Column("source", sa.Integer, nullable=False),
    sa.Column("line", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.Text),
    sa.Column("erased", sa.Text),
    sa.Index("interaction_content", "content"),
    sa.Index("interaction_user", "user_id"),
    sa.Index("interaction_recent", "time", "id", "source"),
)

# What an interaction is called elsewhere, as NAMESPACE:ID.
NAME = sa.Table(
    "name",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("interaction", sa.Text, nullable=False),
    sa.Index("name_interaction", "interaction"),
)

# Further rows that held an interaction which was known already.
SIGHTING = sa.Table(
    "sighting",
    METADATA,
    sa.Column("interaction", sa.Text, primary_key=True),
    sa.Column("source", sa.Integer, primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True),
    sa.Column("time", sa.Text),
    sa.Column("hash", sa.Text),
)

# `interaction` is null while the event waits for it; `said` is JSON, a `Signal`.
EVENT = sa.Table(
    "event",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("interaction", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("said", sa.Text),
    sa.Column("by_whom", sa.Text),
    sa.Column("time", sa.Text),
    sa.Column("source", sa.Integer, nullable=False),
    sa.Column("line", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.Text),
    sa.Column("erased", sa.Text),
    sa.Index("event_interaction", "interaction"),
    sa.Index("event_kind", "kind", "interaction"),
    sa.Index("event_author", "by_whom", "time"),
)

ASIDES = ("skip", "flag")
"""Kinds of events that say nothing of an answer: an annotator passed it over, or reported it."""

# Who has which item at hand until when, so that no two people label the same one unasked. An item
# is named as in `voting`, times are ISO 8601 in UTC.
LEASE = sa.Table(
    "lease",
    METADATA,
    sa.Column("item", sa.Text, primary_key=True),
    sa.Column("annotator", sa.Text, primary_key=True),
    sa.Column("taken", sa.Text, nullable=False),
    sa.Column("until", sa.Text, nullable=False),
)

# The names by which a waiting event will find its interaction.
AWAITED = sa.Table(
    "awaited",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("event", sa.Text, primary_key=True),
)

# Rows that could not be read. Their text is not kept: it could not be found again for deletion.
REJECT = sa.Table(
    "reject",
    METADATA,
    sa.Column("source", sa.Integer, primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
)

# Snapshots that were made of this store, where they lie, and the settings that made them.
SNAPSHOT = sa.Table(
    "snapshot",
    METADATA,
    sa.Column("folder", sa.Text, primary_key=True),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("made", sa.Text, nullable=False),
)
