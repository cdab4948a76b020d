-- +goose Up

-- A code belongs to the address and to the form by which it was asked for, of whose number
-- the hash is kept: whoever asks for another one neither ends it nor tries it. Where nobody
-- has the address there is one all the same, which nothing redeems. What was sent before
-- lasts ten minutes, and is not carried over.
DROP TABLE sign_in_code;
CREATE TABLE sign_in_code (
    application INTEGER NOT NULL REFERENCES application (id),
    address     BLOB   NOT NULL, -- blind index
    asker       BLOB   NOT NULL, -- SHA-256
    citizen     INTEGER REFERENCES citizen (id),
    code        BLOB   NOT NULL,
    tries       INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (application, address, asker)
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_code_by_expiry ON sign_in_code (expires_at);

-- How many wrong codes were tried in an application, within an hour since the first.
CREATE TABLE wrong_code (
    application INTEGER PRIMARY KEY REFERENCES application (id),
    codes       INTEGER NOT NULL,
    since       INTEGER NOT NULL
) STRICT;

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
    application INTEGER NOT NULL REFERENCES application (id),
    address     BLOB   NOT NULL,
    citizen     INTEGER NOT NULL REFERENCES citizen (id),
    code        BLOB   NOT NULL,
    tries       INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (application, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_code_by_expiry ON sign_in_code (expires_at);
