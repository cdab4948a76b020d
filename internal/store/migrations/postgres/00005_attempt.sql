-- +goose Up

-- The delivery log: every attempt, and every other end of a message, append-only. id is
-- the instant in microseconds times 1024, and a number that keeps those of one instant
-- apart. content is the request and the answer, compressed and sealed under the
-- citizen's key. A subscription that is gone leaves rows that nobody can reach; they are
-- deleted little by little. A partition for each day is made ahead and dropped with
-- age; what finds none of its own is in attempt_rest.
CREATE TABLE attempt (
    id           BIGINT NOT NULL PRIMARY KEY,
    subscription BIGINT NOT NULL,
    citizen      BIGINT NOT NULL,
    change       BIGINT NOT NULL, -- of a message that is of one change; 0: the full state
    event        BYTEA,           -- the id of the message
    event_type   TEXT   NOT NULL,
    sequence     BIGINT NOT NULL,
    number       BIGINT NOT NULL, -- of the attempt, from 1; 0 where nothing was sent
    took         BIGINT NOT NULL, -- microseconds
    status       BIGINT NOT NULL, -- 0: no answer
    class        TEXT   NOT NULL,
    outcome      TEXT   NOT NULL,
    reason       TEXT   NOT NULL,
    next_at      BIGINT NOT NULL,
    coalesced    BIGINT NOT NULL,
    content      BYTEA
) PARTITION BY RANGE (id);
ALTER TABLE attempt ALTER COLUMN content SET STORAGE EXTERNAL; -- it is compressed already
CREATE INDEX attempt_by_subscription ON attempt (subscription, id);
CREATE INDEX attempt_by_citizen ON attempt (citizen, id);
CREATE TABLE attempt_rest PARTITION OF attempt DEFAULT;
CREATE SEQUENCE attempt_number CACHE 64;

-- How many bytes of the log are of each five minutes, to keep it within its size.
CREATE TABLE attempt_volume (
    since BIGINT PRIMARY KEY,
    bytes BIGINT NOT NULL
);

-- Subscriptions that are gone, of whose log something is left.
CREATE TABLE attempt_orphan (
    subscription BIGINT PRIMARY KEY
);

-- +goose Down
DROP TABLE attempt_orphan;
DROP TABLE attempt_volume;
DROP TABLE attempt;
DROP SEQUENCE attempt_number;
