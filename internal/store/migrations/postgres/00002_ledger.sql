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
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position    BIGINT NOT NULL,
    citizen     BIGINT NOT NULL,
    application BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    changed_at  BIGINT NOT NULL,
    previous    BIGINT NOT NULL,
    event       TEXT   NOT NULL,
    changed_by  TEXT   NOT NULL,
    body        BYTEA
);
CREATE INDEX change_by_position ON change (application, position, id);
CREATE INDEX change_by_time ON change (application, changed_at, id, previous);

-- A position is the number of the transaction that wrote the change, counted from
-- here: a database that was copied begins to count its transactions anew.
CREATE TABLE feed (origin BIGINT NOT NULL);
INSERT INTO feed (origin) VALUES (0);

-- Of the citizen's last change: when it was, and its place in the feed.
ALTER TABLE citizen_state ADD COLUMN changed_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE citizen_state ADD COLUMN position BIGINT NOT NULL DEFAULT 0;

-- One row per receipt that must still be delivered: each change is a message of its
-- own. stored says that it used up its quick attempts and is tried hourly.
CREATE TABLE receipt (
    subscription BIGINT NOT NULL REFERENCES subscription (id) ON DELETE CASCADE,
    citizen      BIGINT NOT NULL,
    change       BIGINT NOT NULL,
    shard        BIGINT NOT NULL,
    changed_at   BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    stored       BIGINT NOT NULL,
    reason       TEXT   NOT NULL,
    PRIMARY KEY (citizen, subscription, change)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX receipt_by_due ON receipt (subscription, stored, due_at);

ALTER TABLE subscription ADD COLUMN paused_at BIGINT;

-- +goose Down
ALTER TABLE subscription DROP COLUMN paused_at;
DROP TABLE receipt;
ALTER TABLE citizen_state DROP COLUMN position;
ALTER TABLE citizen_state DROP COLUMN changed_at;
DROP TABLE feed;
DROP TABLE change;
DROP INDEX ledger_by_id;
DROP INDEX ledger_by_time;
CREATE INDEX ledger_by_time ON ledger (application, recorded_at, id);
