-- +goose Up

-- The addresses of citizens, by which they are reached and found. sealed is the address
-- as it is shown, under the citizen's key; blind finds the citizens who have it, and is
-- NULL where the address cannot be looked for.
CREATE TABLE citizen_address (
    citizen     INTEGER NOT NULL REFERENCES citizen (id),
    kind        TEXT    NOT NULL CHECK (kind IN ('email', 'telephone')),
    application INTEGER NOT NULL,
    blind       BLOB,
    sealed      BLOB    NOT NULL,
    PRIMARY KEY (citizen, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX citizen_address_by_blind ON citizen_address (application, kind, blind, citizen) WHERE blind IS NOT NULL;

-- The citizens whose addresses are still among their details, where earlier releases put
-- them. They are moved little by little.
CREATE TABLE citizen_address_backlog (
    citizen INTEGER PRIMARY KEY
) STRICT;
INSERT INTO citizen_address_backlog (citizen) SELECT id FROM citizen WHERE deleted_at IS NULL;

-- +goose Down
DROP TABLE citizen_address_backlog;
DROP TABLE citizen_address;
