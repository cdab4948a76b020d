-- +goose Up

-- The ledger holds submissions beside transactions: each is listed by time on its own,
-- and a record is found by its id.
DROP INDEX ledger_by_time;
CREATE INDEX ledger_by_time ON ledger (application, kind, recorded_at, id);
CREATE UNIQUE INDEX ledger_by_id ON ledger (id);

-- Every change of a citizen's state, append-only: what the messages tell. It is read by
-- position and id as the feed of changes, in which position keeps one that is committed
-- late from being skipped; by time as the list of who changed; by id as the content of
-- a receipt. body is what changed, sealed under the citizen's key; previous is
-- changed_at of the citizen's change before it.
CREATE TABLE change (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    position    INTEGER NOT NULL DEFAULT 0,
    citizen     INTEGER NOT NULL,
    application INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    previous    INTEGER NOT NULL,
    event       TEXT    NOT NULL,
    changed_by  TEXT    NOT NULL,
    body        BLOB
) STRICT;
CREATE INDEX change_by_position ON change (application, position, id);
CREATE INDEX change_by_time ON change (application, changed_at, id, previous);

-- Of the citizen's last change: when it was, and its place in the feed.
ALTER TABLE citizen_state ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE citizen_state ADD COLUMN position INTEGER NOT NULL DEFAULT 0;

-- One row per receipt that must still be delivered: each change is a message of its
-- own. stored says that it used up its quick attempts and is tried hourly.
CREATE TABLE receipt (
    subscription INTEGER NOT NULL REFERENCES subscription (id) ON DELETE CASCADE,
    citizen      INTEGER NOT NULL,
    change       INTEGER NOT NULL,
    shard        INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    stored       INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (citizen, subscription, change)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipt_by_due ON receipt (subscription, stored, due_at);

ALTER TABLE subscription ADD COLUMN paused_at INTEGER;

-- +goose Down
ALTER TABLE subscription DROP COLUMN paused_at;
DROP TABLE receipt;
ALTER TABLE citizen_state DROP COLUMN position;
ALTER TABLE citizen_state DROP COLUMN changed_at;
DROP TABLE change;
DROP INDEX ledger_by_id;
DROP INDEX ledger_by_time;
CREATE INDEX ledger_by_time ON ledger (application, recorded_at, id);
