-- +goose Up

-- Mails to citizens. One that goes by a mail server has its body here, one for a
-- citizen-emails subscription in the entry of change that its receipt is of; both are
-- sealed under the citizen's key, and forgotten when the link in the mail has ended. A node that sends it
-- holds it until claimed_until. Times are 0 where they have not come.
CREATE TABLE mail (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id     BLOB    NOT NULL UNIQUE,
    application   INTEGER NOT NULL REFERENCES application (id),
    citizen       INTEGER NOT NULL REFERENCES citizen (id),
    kind          TEXT    NOT NULL,
    way           TEXT    NOT NULL CHECK (way IN ('smtp', 'webhook')),
    state         TEXT    NOT NULL,
    change        INTEGER,
    body          BLOB,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    claimed_until INTEGER NOT NULL DEFAULT 0,
    ended_at      INTEGER NOT NULL DEFAULT 0,
    reason        TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX mail_by_citizen ON mail (citizen, id);
CREATE INDEX mail_by_due ON mail (due_at) WHERE state = 'waiting' AND way = 'smtp';
CREATE INDEX mail_waiting ON mail (expires_at) WHERE state = 'waiting';
CREATE INDEX mail_kept ON mail (expires_at) WHERE body IS NOT NULL OR change IS NOT NULL;
CREATE UNIQUE INDEX mail_by_change ON mail (change);

-- What was answered as PENDING until the owner of the address confirms it by a link, of
-- which SHA-256 is kept. sealed, under the citizen's key, is the rest. seq is the citizen's
-- last record then; created says that the citizen was made for it.
CREATE TABLE sign_up (
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
CREATE INDEX sign_up_by_citizen ON sign_up (citizen, id);
CREATE INDEX sign_up_unconfirmed ON sign_up (created_at) WHERE state <> 'confirmed';

-- How many mails an address, by its blind index, was sent for a template without a
-- confirmation: it outlives the citizen, or the limit would not.
CREATE TABLE mail_limit (
    application INTEGER NOT NULL REFERENCES application (id),
    address     BLOB    NOT NULL,
    template    TEXT    NOT NULL,
    mails       INTEGER NOT NULL,
    first_at    INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    PRIMARY KEY (application, address, template)
) STRICT, WITHOUT ROWID;
CREATE INDEX mail_limit_by_time ON mail_limit (last_at);

-- What somebody answered for a reference that belongs to somebody already, without a token,
-- until it is accepted or rejected; sealed under the citizen's key.
CREATE TABLE parked_capture (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id   BLOB    NOT NULL UNIQUE,
    application INTEGER NOT NULL REFERENCES application (id),
    citizen     INTEGER NOT NULL REFERENCES citizen (id),
    sealed      BLOB    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX parked_capture_by_application ON parked_capture (application, id);
CREATE INDEX parked_capture_by_citizen ON parked_capture (citizen, id);
CREATE INDEX parked_capture_by_time ON parked_capture (created_at);

-- Who asked for a link, or a code, to the own page, until it is looked up; sealed under a
-- master key.
CREATE TABLE link_request (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id   BLOB    NOT NULL UNIQUE,
    application INTEGER NOT NULL REFERENCES application (id),
    sealed      BLOB    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

-- The code that an address was sent last, by a keyed hash, and how often a wrong one was tried.
CREATE TABLE sign_in_code (
    application INTEGER NOT NULL REFERENCES application (id),
    address     BLOB    NOT NULL, -- blind index
    citizen     INTEGER NOT NULL REFERENCES citizen (id),
    code        BLOB    NOT NULL,
    tries       INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (application, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_code_by_expiry ON sign_in_code (expires_at);

-- +goose Down
DROP TABLE sign_in_code;
DROP TABLE link_request;
DROP TABLE parked_capture;
DROP TABLE mail_limit;
DROP TABLE sign_up;
DROP TABLE mail;
