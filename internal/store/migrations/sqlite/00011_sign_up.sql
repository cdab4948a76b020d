-- +goose Up

-- A sign-up of which no mail was sent has no link by which it could be confirmed: it is kept
-- until it is purged.
CREATE TABLE sign_up_of_any (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id   BLOB    NOT NULL UNIQUE,
    application INTEGER NOT NULL REFERENCES application (id),
    citizen     INTEGER NOT NULL REFERENCES citizen (id),
    mail        INTEGER REFERENCES mail (id),
    link        BLOB    UNIQUE,
    template    TEXT    NOT NULL,
    address     BLOB    NOT NULL, -- blind index; empty where none is known
    state       TEXT    NOT NULL CHECK (state IN ('open', 'confirmed', 'refused', 'withdrawn')),
    created     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    sealed      BLOB,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO sign_up_of_any SELECT id, public_id, application, citizen, mail, link, template, address, state, created, seq, sealed, created_at, expires_at, ended_at FROM sign_up;
DROP TABLE sign_up;
ALTER TABLE sign_up_of_any RENAME TO sign_up;
CREATE INDEX sign_up_by_citizen ON sign_up (citizen, id);
CREATE INDEX sign_up_unconfirmed ON sign_up (created_at) WHERE state <> 'confirmed';

-- +goose Down
DELETE FROM sign_up WHERE link IS NULL;
CREATE TABLE sign_up_by_mail (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id   BLOB    NOT NULL UNIQUE,
    application INTEGER NOT NULL REFERENCES application (id),
    citizen     INTEGER NOT NULL REFERENCES citizen (id),
    mail        INTEGER NOT NULL REFERENCES mail (id),
    link        BLOB    NOT NULL UNIQUE,
    template    TEXT    NOT NULL,
    address     BLOB    NOT NULL, -- blind index
    state       TEXT    NOT NULL CHECK (state IN ('open', 'confirmed', 'refused', 'withdrawn')),
    created     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    sealed      BLOB,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO sign_up_by_mail SELECT id, public_id, application, citizen, mail, link, template, address, state, created, seq, sealed, created_at, expires_at, ended_at FROM sign_up;
DROP TABLE sign_up;
ALTER TABLE sign_up_by_mail RENAME TO sign_up;
CREATE INDEX sign_up_by_citizen ON sign_up (citizen, id);
CREATE INDEX sign_up_unconfirmed ON sign_up (created_at) WHERE state <> 'confirmed';
