-- +goose Up

-- Where preference centres are found: /c/{slug}, and //{host} of those that have a host name of
-- their own. An address is had by one centre of the server, whichever process gave it.
CREATE TABLE centre_address (
    address     TEXT PRIMARY KEY,
    application BIGINT NOT NULL REFERENCES application (id),
    reference   TEXT NOT NULL
);
CREATE INDEX centre_address_by_centre ON centre_address (application, reference);

-- Of two that have the same one, which could come of two processes at one instant, the older
-- application has been the one that is found.
INSERT INTO centre_address (address, application, reference)
SELECT address, application, key FROM (
    SELECT '/c/' || (body::jsonb ->> 'slug') AS address, application, key, kind, revision, archived FROM catalogue_item
    UNION ALL
    SELECT '//' || (body::jsonb ->> 'host'), application, key, kind, revision, archived FROM catalogue_item
) AS i
WHERE kind = 'preference-centre' AND archived = 0 AND address IS NOT NULL AND revision = (
    SELECT max(revision) FROM catalogue_item n WHERE n.application = i.application AND n.kind = i.kind AND n.key = i.key)
ORDER BY application
ON CONFLICT DO NOTHING;

-- +goose Down
DROP TABLE centre_address;
