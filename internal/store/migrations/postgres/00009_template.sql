-- +goose Up

-- What is being edited of templates and not published yet. base is the revision from
-- which the draft was begun: it can be published while that is the newest.
CREATE TABLE template_draft (
    application BIGINT  NOT NULL REFERENCES application (id),
    key         TEXT    NOT NULL,
    base        BIGINT  NOT NULL,
    body        TEXT    NOT NULL,
    updated_at  BIGINT  NOT NULL,
    updated_by  TEXT    NOT NULL,
    PRIMARY KEY (application, key)
);

-- +goose Down
DROP TABLE template_draft;
