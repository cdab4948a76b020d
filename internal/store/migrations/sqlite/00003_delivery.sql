-- +goose Up

-- options is what else was asked of the subscription, as JSON. A node that renews its
-- tokens holds refreshing_until meanwhile.
ALTER TABLE subscription ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
ALTER TABLE subscription ADD COLUMN refreshing_until INTEGER NOT NULL DEFAULT 0;

-- bulk says that no person waits for it: it leaves after the others. resync says that an
-- operator asked for it, and nothing changed.
ALTER TABLE lane ADD COLUMN bulk INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lane ADD COLUMN resync INTEGER NOT NULL DEFAULT 0;
ALTER TABLE receipt ADD COLUMN bulk INTEGER NOT NULL DEFAULT 0;
DROP INDEX lane_by_due;
CREATE INDEX lane_by_due ON lane (subscription, bulk, due_at);
DROP INDEX receipt_by_due;
CREATE INDEX receipt_by_due ON receipt (subscription, stored, bulk, due_at);

-- When it failed last. What failed before its endpoint came back is due.
ALTER TABLE delivery_failure ADD COLUMN failed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery_failure ADD COLUMN resync INTEGER NOT NULL DEFAULT 0;
ALTER TABLE receipt ADD COLUMN failed_at INTEGER NOT NULL DEFAULT 0;

-- How each endpoint has been doing. All of its instants are 0 where there was none.
CREATE TABLE endpoint (
    subscription    INTEGER PRIMARY KEY REFERENCES subscription (id) ON DELETE CASCADE,
    failing_since   INTEGER NOT NULL DEFAULT 0, -- the first failure after the last success
    down_since      INTEGER NOT NULL DEFAULT 0, -- nothing but probes is sent since
    probe_at        INTEGER NOT NULL DEFAULT 0, -- when the next probe may leave
    probe_pause     INTEGER NOT NULL DEFAULT 0, -- before the one after that
    wait_until      INTEGER NOT NULL DEFAULT 0, -- the endpoint asked for a pause until then
    released_at     INTEGER NOT NULL DEFAULT 0, -- when it last came back
    last_success_at INTEGER NOT NULL DEFAULT 0,
    last_failure_at INTEGER NOT NULL DEFAULT 0,
    last_reason     TEXT   NOT NULL DEFAULT '',
    gone_at         INTEGER NOT NULL DEFAULT 0, -- it answered 410, and nothing else since
    delivered       INTEGER NOT NULL DEFAULT 0,
    failed          INTEGER NOT NULL DEFAULT 0, -- attempts
    notified_at     INTEGER NOT NULL DEFAULT 0  -- when the operator was last told that it fails
) STRICT;

-- +goose Down
DROP TABLE endpoint;
ALTER TABLE receipt DROP COLUMN failed_at;
ALTER TABLE delivery_failure DROP COLUMN resync;
ALTER TABLE delivery_failure DROP COLUMN failed_at;
DROP INDEX receipt_by_due;
CREATE INDEX receipt_by_due ON receipt (subscription, stored, due_at);
DROP INDEX lane_by_due;
CREATE INDEX lane_by_due ON lane (subscription, due_at);
ALTER TABLE receipt DROP COLUMN bulk;
ALTER TABLE lane DROP COLUMN resync;
ALTER TABLE lane DROP COLUMN bulk;
ALTER TABLE subscription DROP COLUMN refreshing_until;
ALTER TABLE subscription DROP COLUMN options;
