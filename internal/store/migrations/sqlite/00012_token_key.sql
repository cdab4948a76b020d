-- +goose Up

-- The keys that sign citizen tokens and what our pages hand back to us, sealed under a
-- master key. The one with the highest id signs. One that is retired_at verifies links to
-- unsubscribe and nothing else. None is ever deleted, so that the number of the keys and of
-- the retired ones together says whether anything has changed.
CREATE TABLE token_key (
    id         INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 255),
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    retired_at INTEGER,
    retired_by TEXT
) STRICT;

-- +goose Down
DROP TABLE token_key;
