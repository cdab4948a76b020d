-- +goose Up

-- A sign-up of which no mail was sent has no link by which it could be confirmed: it is kept
-- until it is purged. Its address is empty where none is known.
ALTER TABLE sign_up ALTER COLUMN mail DROP NOT NULL, ALTER COLUMN link DROP NOT NULL;

-- +goose Down
DELETE FROM sign_up WHERE link IS NULL;
ALTER TABLE sign_up ALTER COLUMN mail SET NOT NULL, ALTER COLUMN link SET NOT NULL;
