-- +goose Up

-- Mails to citizens. One that goes by a mail server has its body here, one for a
-- citizen-emails subscription in the entry of change that its receipt is of; both are
-- sealed under the citizen's key, and forgotten when the link in the mail has ended. A node that sends it
-- holds it until claimed_until. Times are 0 where they have not come.
CREATE TABLE mail (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id     BYTEA   NOT NULL UNIQUE,
    application   BIGINT NOT NULL REFERENCES application (id),
    citizen       BIGINT NOT NULL REFERENCES citizen (id),
    kind          TEXT    NOT NULL,
    way           TEXT    NOT NULL CHECK (way IN ('smtp', 'webhook')),
    state         TEXT    NOT NULL,
    change        BIGINT,
    body          BYTEA,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    due_at        BIGINT NOT NULL,
    attempts      BIGINT NOT NULL DEFAULT 0,
    claimed_until BIGINT NOT NULL DEFAULT 0,
    ended_at      BIGINT NOT NULL DEFAULT 0,
    reason        TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX mail_by_citizen ON mail (citizen, id);
CREATE INDEX mail_by_due ON mail (due_at) WHERE state = 'waiting' AND way = 'smtp';
CREATE INDEX mail_waiting ON mail (expires_at) WHERE state = 'waiting';
CREATE INDEX mail_kept ON mail (expires_at) WHERE body IS NOT NULL OR change IS NOT NULL;
CREATE UNIQUE INDEX mail_by_change ON mail (change);

-- What was answered as PENDING until the owner of the address confirms it by a link, of
-- which SHA-256 is kept. sealed, under the citizen's key, is the rest. seq is the citizen's
-- last record then; created says that the citizen was made for it.
CREATE TABLE sign_up (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id   BYTEA   NOT NULL UNIQUE,
    application BIGINT NOT NULL REFERENCES application (id),
    citizen     BIGINT NOT NULL REFERENCES citizen (id),
    mail        BIGINT NOT NULL REFERENCES mail (id),
    link        BYTEA   NOT NULL UNIQUE,
    template    TEXT    NOT NULL,
    address     BYTEA   NOT NULL, -- blind index
    state       TEXT    NOT NULL CHECK (state IN ('open', 'confirmed', 'refused', 'withdrawn')),
    created     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    sealed      BYTEA,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX sign_up_by_citizen ON sign_up (citizen, id);
CREATE INDEX sign_up_unconfirmed ON sign_up (created_at) WHERE state <> 'confirmed';

-- How many mails an address, by its blind index, was sent for a template without a
-- confirmation: it outlives the citizen, or the limit would not.
CREATE TABLE mail_limit (
    application BIGINT NOT NULL REFERENCES application (id),
    address     BYTEA   NOT NULL,
    template    TEXT    NOT NULL,
    mails       BIGINT NOT NULL,
    first_at    BIGINT NOT NULL,
    last_at     BIGINT NOT NULL,
    PRIMARY KEY (application, address, template)
);
CREATE INDEX mail_limit_by_time ON mail_limit (last_at);

-- What somebody answered for a reference that belongs to somebody already, without a token,
-- until it is accepted or rejected; sealed under the citizen's key.
CREATE TABLE parked_capture (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id   BYTEA   NOT NULL UNIQUE,
    application BIGINT NOT NULL REFERENCES application (id),
    citizen     BIGINT NOT NULL REFERENCES citizen (id),
    sealed      BYTEA   NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE INDEX parked_capture_by_application ON parked_capture (application, id);
CREATE INDEX parked_capture_by_citizen ON parked_capture (citizen, id);
CREATE INDEX parked_capture_by_time ON parked_capture (created_at);

-- Who asked for a link, or a code, to the own page, until it is looked up; sealed under a
-- master key.
CREATE TABLE link_request (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id   BYTEA   NOT NULL UNIQUE,
    application BIGINT NOT NULL REFERENCES application (id),
    sealed      BYTEA   NOT NULL,
    created_at  BIGINT NOT NULL
);

-- The code that an address was sent last, by a keyed hash, and how often a wrong one was tried.
CREATE TABLE sign_in_code (
    application BIGINT NOT NULL REFERENCES application (id),
    address     BYTEA   NOT NULL, -- blind index
    citizen     BIGINT NOT NULL REFERENCES citizen (id),
    code        BYTEA   NOT NULL,
    tries       BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (application, address)
);
CREATE INDEX sign_in_code_by_expiry ON sign_in_code (expires_at);

-- +goose Down
DROP TABLE sign_in_code;
DROP TABLE link_request;
DROP TABLE parked_capture;
DROP TABLE mail_limit;
DROP TABLE sign_up;
DROP TABLE mail;
