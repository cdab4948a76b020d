-- +goose Up

-- The delivery log: every attempt, and every other end of a message, append-only. id is
-- the instant in microseconds times 1024, and a number that keeps those of one instant
-- apart. content is the request and the answer, compressed and sealed under the
-- citizen's key. A subscription that is gone leaves rows that nobody can reach; they are
-- deleted little by little.
CREATE TABLE attempt (
    id           INTEGER PRIMARY KEY,
    subscription INTEGER NOT NULL,
    citizen      INTEGER NOT NULL,
    change       INTEGER NOT NULL, -- of a message that is of one change; 0: the full state
    event        BLOB,             -- the id of the message
    event_type   TEXT    NOT NULL,
    sequence     INTEGER NOT NULL,
    number       INTEGER NOT NULL, -- of the attempt, from 1; 0 where nothing was sent
    took         INTEGER NOT NULL, -- microseconds
    status       INTEGER NOT NULL, -- 0: no answer
    class        TEXT    NOT NULL,
    outcome      TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    next_at      INTEGER NOT NULL,
    coalesced    INTEGER NOT NULL,
    content      BLOB
) STRICT;
CREATE INDEX attempt_by_subscription ON attempt (subscription, id);
CREATE INDEX attempt_by_citizen ON attempt (citizen, id);

-- How many bytes of the log are of each five minutes, to keep it within its size.
CREATE TABLE attempt_volume (
    since INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT;

-- Subscriptions that are gone, of whose log something is left.
CREATE TABLE attempt_orphan (
    subscription INTEGER PRIMARY KEY
) STRICT;

-- +goose Down
DROP TABLE attempt_orphan;
DROP TABLE attempt_volume;
DROP TABLE attempt;
