-- +goose Up

-- The addresses of citizens, by which they are reached and found. sealed is the address
-- as it is shown, under the citizen's key; blind finds the citizens who have it, and is
-- NULL where the address cannot be looked for.
CREATE TABLE citizen_address (
    citizen     BIGINT NOT NULL REFERENCES citizen (id),
    kind        TEXT   NOT NULL CHECK (kind IN ('email', 'telephone')),
    application BIGINT NOT NULL,
    blind       BYTEA,
    sealed      BYTEA  NOT NULL,
    PRIMARY KEY (citizen, kind)
);
CREATE INDEX citizen_address_by_blind ON citizen_address (application, kind, blind, citizen) WHERE blind IS NOT NULL;

-- The citizens whose addresses are still among their details, where earlier releases put
-- them. They are moved little by little.
CREATE TABLE citizen_address_backlog (
    citizen BIGINT PRIMARY KEY
);
INSERT INTO citizen_address_backlog (citizen) SELECT id FROM citizen WHERE deleted_at IS NULL;

-- The do-not-contact list, which outlives the citizens: one row for an address and a
-- Channel, kept when it is lifted. sealed is the address and what is said of it, under the
-- key of the list. acts counts the changes of the row, told those of them that have come
-- to the citizens who have the address.
CREATE TABLE suppression (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id       BYTEA  NOT NULL UNIQUE,
    application     BIGINT NOT NULL REFERENCES application (id),
    kind            TEXT   NOT NULL CHECK (kind IN ('email', 'telephone')),
    blind           BYTEA  NOT NULL,
    channel         TEXT   NOT NULL,
    sealed          BYTEA  NOT NULL,
    created_at      BIGINT NOT NULL,
    created_by      TEXT   NOT NULL,
    created_by_name TEXT   NOT NULL,
    lifted_at       BIGINT,
    lifted_by       TEXT   NOT NULL,
    lifted_by_name  TEXT   NOT NULL,
    acts            BIGINT NOT NULL,
    told            BIGINT NOT NULL
);
CREATE UNIQUE INDEX suppression_in_force ON suppression (application, kind, blind, channel) WHERE lifted_at IS NULL;
CREATE INDEX suppression_by_address ON suppression (application, kind, blind, id);
CREATE INDEX suppression_by_application ON suppression (application, id);
CREATE INDEX suppression_untold ON suppression (id) WHERE told < acts;

-- +goose Down
DROP TABLE suppression;
DROP TABLE citizen_address_backlog;
DROP TABLE citizen_address;
