CREATE TABLE owner_marks (
    prefix_id  bigint NOT NULL REFERENCES prefixes ON DELETE CASCADE,
    repository text NOT NULL REFERENCES repositories,
    state      text NOT NULL CHECK (state IN ('unknown', 'ours', 'foreign', 'unimported')),
    detail     text NOT NULL DEFAULT '',
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (prefix_id, repository)
);
