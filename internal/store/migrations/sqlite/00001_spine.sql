-- +goose Up

-- What the store knows of itself: the sealed index key.
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- revision counts the changes of the catalogue.
CREATE TABLE application (
    id         INTEGER PRIMARY KEY,
    public_id  TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Every version of everything in every catalogue; rows are only ever added. The
-- newest revision of a key is the one in force. id is what the API calls the item.
CREATE TABLE catalogue_item (
    application INTEGER NOT NULL REFERENCES application (id),
    kind        TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    archived    INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL,
    recorded_by TEXT    NOT NULL,
    PRIMARY KEY (application, kind, key, revision)
) STRICT;

-- API clients and API keys: who may call. hash is SHA-256 of the secret.
CREATE TABLE credential (
    id         BLOB    PRIMARY KEY,
    kind       TEXT    NOT NULL CHECK (kind IN ('client', 'apikey')),
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE,
    scopes     TEXT    NOT NULL,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE credential_application (
    credential  BLOB    NOT NULL REFERENCES credential (id),
    application INTEGER NOT NULL REFERENCES application (id),
    PRIMARY KEY (credential, application)
) STRICT, WITHOUT ROWID;

CREATE TABLE access_token (
    hash       BLOB    PRIMARY KEY,
    credential BLOB    NOT NULL REFERENCES credential (id),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX access_token_by_expiry ON access_token (expires_at);

-- Outcomes of calls that carried an Idempotency-Key, by credential and route, kept
-- for 24 hours. request is SHA-256 of the body; outcome is sealed.
CREATE TABLE idempotency (
    credential TEXT    NOT NULL,
    route      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    request    BLOB   NOT NULL,
    outcome    BLOB   NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (credential, route, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_time ON idempotency (created_at);

-- By citizen. details holds the reference and the personal details, sealed under
-- the citizen's key; ref_index is the blind index of the reference. After an
-- erasure both are null and farewell keeps the reference, sealed under the master
-- key, until the subscribers have been told.
CREATE TABLE citizen (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id   BLOB    NOT NULL UNIQUE,
    application INTEGER NOT NULL REFERENCES application (id),
    ref_index   BLOB,
    details     BLOB,
    farewell    BLOB,
    created_at  INTEGER NOT NULL,
    deleted_at  INTEGER,
    UNIQUE (application, ref_index)
) STRICT;
CREATE INDEX citizen_farewell ON citizen (deleted_at) WHERE farewell IS NOT NULL;

-- The data key of each citizen, wrapped. Deleting the row is the erasure.
CREATE TABLE citizen_key (
    citizen INTEGER PRIMARY KEY REFERENCES citizen (id),
    wrapped BLOB NOT NULL
) STRICT;

-- By citizen: the head of the citizen's chain of records and the projection of
-- the ledger, sealed under the citizen's key.
CREATE TABLE citizen_state (
    citizen        INTEGER PRIMARY KEY REFERENCES citizen (id),
    application    INTEGER NOT NULL,
    seq            INTEGER NOT NULL, -- records in the ledger
    hash           BLOB    NOT NULL, -- of the last one
    recorded_at    INTEGER NOT NULL, -- of the last one
    version        INTEGER NOT NULL, -- rises with every change of the state
    changed_by     TEXT    NOT NULL, -- the client that caused the last change
    projection     BLOB,
    next_change_at INTEGER           -- when time alone changes the state
) STRICT;
CREATE INDEX citizen_state_by_next_change ON citizen_state (next_change_at) WHERE next_change_at IS NOT NULL;

-- Append-only, by citizen; listed by time within an application. hash covers the
-- record and the hash before it.
CREATE TABLE ledger (
    citizen     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    application INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    sealed      BLOB,
    hash        BLOB    NOT NULL,
    PRIMARY KEY (citizen, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_by_time ON ledger (application, recorded_at, id);

-- What was done to the set-up and to citizens' details, by whom; no personal data.
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    application INTEGER,
    recorded_at INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    object      TEXT    NOT NULL
) STRICT;

CREATE TABLE subscription (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id      BLOB    NOT NULL UNIQUE,
    application    INTEGER NOT NULL REFERENCES application (id),
    name           TEXT    NOT NULL,
    url            TEXT    NOT NULL,
    update_type    TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    auth_type      TEXT    NOT NULL,
    token_location TEXT    NOT NULL,
    token_name     TEXT    NOT NULL,
    refresh_url    TEXT    NOT NULL,
    client_id      TEXT    NOT NULL,
    secrets        BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX subscription_by_application ON subscription (application, id);

-- One row per subscription and citizen with something to send: the unit of order
-- and of the quick attempts.
CREATE TABLE lane (
    subscription INTEGER NOT NULL REFERENCES subscription (id) ON DELETE CASCADE,
    citizen      INTEGER NOT NULL,
    shard        INTEGER NOT NULL,
    version      INTEGER NOT NULL, -- the newest state that must be delivered
    changes      INTEGER NOT NULL, -- how many wait in this row
    changed_at   INTEGER NOT NULL, -- when the first of them was recorded
    attempts     INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    PRIMARY KEY (citizen, subscription)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_by_due ON lane (subscription, due_at);

-- The failures store: what used up its quick attempts, tried again hourly.
CREATE TABLE delivery_failure (
    subscription INTEGER NOT NULL REFERENCES subscription (id) ON DELETE CASCADE,
    citizen      INTEGER NOT NULL,
    shard        INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    changes      INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (citizen, subscription)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_failure_by_due ON delivery_failure (subscription, due_at);

-- The nodes that deliver, by their last sign of life.
CREATE TABLE node (
    name    TEXT    PRIMARY KEY,
    seen_at INTEGER NOT NULL
) STRICT;

-- Who may deliver for a shard of the citizens. epoch rises with every change of
-- hands; an outcome that carries an older one is refused. No sentAt after
-- expires_at was ever stamped by the holder, so the next one starts there.
CREATE TABLE lease (
    shard      INTEGER PRIMARY KEY,
    holder     TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
INSERT INTO lease (shard, holder, epoch, expires_at) VALUES
    (0, '', 0, 0), (1, '', 0, 0), (2, '', 0, 0), (3, '', 0, 0), (4, '', 0, 0), (5, '', 0, 0), (6, '', 0, 0), (7, '', 0, 0),
    (8, '', 0, 0), (9, '', 0, 0), (10, '', 0, 0), (11, '', 0, 0), (12, '', 0, 0), (13, '', 0, 0), (14, '', 0, 0), (15, '', 0, 0);

-- +goose Down
DROP TABLE lease;
DROP TABLE node;
DROP TABLE delivery_failure;
DROP TABLE lane;
DROP TABLE subscription;
DROP TABLE audit;
DROP TABLE ledger;
DROP TABLE citizen_state;
DROP TABLE citizen_key;
DROP TABLE citizen;
DROP TABLE idempotency;
DROP TABLE access_token;
DROP TABLE credential_application;
DROP TABLE credential;
DROP TABLE catalogue_item;
DROP TABLE application;
DROP TABLE setting;
