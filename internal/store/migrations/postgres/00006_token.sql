-- +goose Up

-- The acts that made citizen tokens: one for a single token, and one for all those that
-- the messages of a subscription carry until it is revoked. The tokens themselves are not
-- kept. An issue without an end has tokens that end by themselves.
CREATE TABLE token_issue (
    number       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application  BIGINT NOT NULL REFERENCES application (id),
    kind         TEXT   NOT NULL CHECK (kind IN ('single', 'subscription', 'batch')),
    citizen      BIGINT REFERENCES citizen (id), -- of a single one
    subscription BIGINT REFERENCES subscription (id) ON DELETE SET NULL,
    reference    TEXT   NOT NULL,
    created_by   TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT
);
CREATE INDEX token_issue_by_application ON token_issue (application, number);
CREATE INDEX token_issue_by_expiry ON token_issue (expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX token_issue_in_use ON token_issue (subscription) WHERE revoked_at IS NULL;

-- A citizen's tokens of an earlier generation are revoked.
ALTER TABLE citizen ADD COLUMN token_generation BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE citizen DROP COLUMN token_generation;
DROP TABLE token_issue;
