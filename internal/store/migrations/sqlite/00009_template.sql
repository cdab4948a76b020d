-- +goose Up

-- What is being edited of templates and not published yet. base is the revision from
-- which the draft was begun: it can be published while that is the newest.
CREATE TABLE template_draft (
    application INTEGER NOT NULL REFERENCES application (id),
    key         TEXT    NOT NULL,
    base        INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    updated_at  INTEGER NOT NULL,
    updated_by  TEXT    NOT NULL,
    PRIMARY KEY (application, key)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE template_draft;
