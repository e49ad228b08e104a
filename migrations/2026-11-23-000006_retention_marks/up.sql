-- Whether this catalog was compared with what a bucket really holds is known per prefix, as
-- a listing is.
CREATE TABLE compared_marks (
    prefix_id   bigint NOT NULL REFERENCES prefixes ON DELETE CASCADE,
    repository  text NOT NULL REFERENCES repositories,
    catalog     uuid NOT NULL,
    epoch       bigint NOT NULL,
    compared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (prefix_id, repository)
);
ALTER TABLE repositories
    DROP COLUMN compared_catalog, DROP COLUMN compared_epoch, DROP COLUMN compared_at;

-- A copy that is not required may still be due when its file is old enough: its object may
-- exist all the same, so it is deleted like the others.
ALTER TABLE copies DROP CONSTRAINT copies_check;
ALTER TABLE copies ADD CONSTRAINT copies_check CHECK (state <> 'verified' OR verified_at IS NOT NULL);

-- A run shows that it is alive; the newest run of a cluster fences every older one.
ALTER TABLE retention_runs ADD COLUMN renewed_at timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE INDEX retention_runs_newest ON retention_runs (cluster_id, id);
