-- +goose Up

-- A batch is made by a job. A scheduled one was asked for by nobody: the next one is due
-- by when the last one was made.
ALTER TABLE token_issue ADD COLUMN job INTEGER REFERENCES job (id);
ALTER TABLE token_issue ADD COLUMN scheduled INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX token_issue_by_job ON token_issue (job) WHERE job IS NOT NULL;
CREATE INDEX token_issue_by_schedule ON token_issue (application, number) WHERE scheduled = 1;

-- What links to unsubscribe leave: one row for each option, or group, that has any. Such a
-- link is good for ever, so a row is never deleted.
CREATE TABLE unsubscribe_link (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    application INTEGER NOT NULL REFERENCES application (id),
    option_type TEXT    NOT NULL CHECK (option_type IN ('option', 'group')),
    option_id   TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (application, option_type, option_id)
) STRICT;

-- Who is in which piece of a file of tokens, so that an erasure finds them there: the
-- pieces are in the order of the citizens, and last is the last one's number.
CREATE TABLE token_piece (
    job   INTEGER NOT NULL REFERENCES job (id),
    last  INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (job, last)
) STRICT;

-- Who was erased while a job made tokens: a step that read them before blanks them.
CREATE TABLE token_erased (
    job     INTEGER NOT NULL REFERENCES job (id),
    citizen INTEGER NOT NULL,
    PRIMARY KEY (job, citizen)
) STRICT;

-- +goose Down
DROP TABLE token_erased;
DROP TABLE token_piece;
DROP TABLE unsubscribe_link;
DROP INDEX token_issue_by_schedule;
DROP INDEX token_issue_by_job;
ALTER TABLE token_issue DROP COLUMN scheduled;
ALTER TABLE token_issue DROP COLUMN job;
