-- +goose Up

-- A code belongs to the address and to the form by which it was asked for, of whose number
-- the hash is kept: whoever asks for another one neither ends it nor tries it. Where nobody
-- has the address there is one all the same, which nothing redeems. What was sent before
-- lasts ten minutes, and is not carried over.
DROP TABLE sign_in_code;
CREATE TABLE sign_in_code (
    application BIGINT NOT NULL REFERENCES application (id),
    address     BYTEA   NOT NULL, -- blind index
    asker       BYTEA   NOT NULL, -- SHA-256
    citizen     BIGINT REFERENCES citizen (id),
    code        BYTEA   NOT NULL,
    tries       BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (application, address, asker)
);
CREATE INDEX sign_in_code_by_expiry ON sign_in_code (expires_at);

-- How many wrong codes were tried in an application, within an hour since the first.
CREATE TABLE wrong_code (
    application BIGINT PRIMARY KEY REFERENCES application (id),
    codes       BIGINT NOT NULL,
    since       BIGINT NOT NULL
);

-- Requests that nobody could answer are deleted by their age.
CREATE INDEX link_request_by_time ON link_request (created_at);

-- Those of a citizen end with the address to which they were sent.
CREATE INDEX token_issue_by_citizen ON token_issue (citizen) WHERE citizen IS NOT NULL;

-- +goose Down
DROP INDEX token_issue_by_citizen;
DROP INDEX link_request_by_time;
DROP TABLE wrong_code;
DROP TABLE sign_in_code;
CREATE TABLE sign_in_code (
    application BIGINT NOT NULL REFERENCES application (id),
    address     BYTEA   NOT NULL,
    citizen     BIGINT NOT NULL REFERENCES citizen (id),
    code        BYTEA   NOT NULL,
    tries       BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (application, address)
);
CREATE INDEX sign_in_code_by_expiry ON sign_in_code (expires_at);
