-- +goose Up

-- Long work. A running job is held by a node until lease_until; epoch rises with every
-- change of hands and steps with every step, and what carries older ones is refused.
-- params and cursor, what the kind of work was told and where it has got to, are sealed,
-- and gone once the job has expired. Times are 0 where they have not come. rate is that
-- of late, in items a second; per_second is the most that is allowed, 0 for no limit.
-- version rises with whatever a reader may see.
CREATE TABLE job (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id        BYTEA    NOT NULL UNIQUE,
    application      BIGINT NOT NULL REFERENCES application (id),
    kind             TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    params           BYTEA,
    cursor           BYTEA,
    per_second       BIGINT NOT NULL,
    done             BIGINT NOT NULL DEFAULT 0,
    total            BIGINT,
    failures         BIGINT NOT NULL DEFAULT 0,
    steps            BIGINT NOT NULL DEFAULT 0,
    rate             DOUBLE PRECISION NOT NULL DEFAULT 0,
    claimed_at       BIGINT NOT NULL DEFAULT 0,
    stepped_at       BIGINT NOT NULL DEFAULT 0,
    version          BIGINT NOT NULL DEFAULT 1,
    created_at       BIGINT NOT NULL,
    started_at       BIGINT NOT NULL DEFAULT 0,
    finished_at      BIGINT NOT NULL DEFAULT 0,
    expires_at       BIGINT NOT NULL DEFAULT 0,
    created_by       TEXT    NOT NULL,
    error            TEXT    NOT NULL DEFAULT '',
    holder           TEXT    NOT NULL DEFAULT '',
    epoch            BIGINT NOT NULL DEFAULT 0,
    lease_until      BIGINT NOT NULL DEFAULT 0,
    cancel_requested BIGINT NOT NULL DEFAULT 0,
    result_size      BIGINT NOT NULL DEFAULT 0,
    failures_size    BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX job_by_application ON job (application, id);
CREATE INDEX job_by_end ON job (application, finished_at);
CREATE INDEX job_unfinished ON job (kind, id) WHERE finished_at = 0;
CREATE INDEX job_to_forget ON job (expires_at) WHERE params IS NOT NULL;

-- The files of jobs, in sealed pieces; place is that of the first byte in the file.
CREATE TABLE job_file (
    job    BIGINT NOT NULL REFERENCES job (id),
    name   TEXT    NOT NULL,
    place  BIGINT NOT NULL,
    sealed BYTEA    NOT NULL,
    PRIMARY KEY (job, name, place)
);

-- +goose Down
DROP TABLE job_file;
DROP TABLE job;
