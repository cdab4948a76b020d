-- +goose Up

-- The acts that made citizen tokens: one for a single token, and one for all those that
-- the messages of a subscription carry until it is revoked. The tokens themselves are not
-- kept. An issue without an end has tokens that end by themselves.
CREATE TABLE token_issue (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    application  INTEGER NOT NULL REFERENCES application (id),
    kind         TEXT    NOT NULL CHECK (kind IN ('single', 'subscription', 'batch')),
    citizen      INTEGER REFERENCES citizen (id), -- of a single one
    subscription INTEGER REFERENCES subscription (id) ON DELETE SET NULL,
    reference    TEXT    NOT NULL,
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX token_issue_by_application ON token_issue (application, number);
CREATE INDEX token_issue_by_expiry ON token_issue (expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX token_issue_in_use ON token_issue (subscription) WHERE revoked_at IS NULL;

-- A citizen's tokens of an earlier generation are revoked.
ALTER TABLE citizen ADD COLUMN token_generation INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE citizen DROP COLUMN token_generation;
DROP TABLE token_issue;
