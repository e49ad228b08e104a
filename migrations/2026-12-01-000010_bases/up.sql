-- Base backups as their `backup.json` has them. The object in the bucket is the truth, and
-- these rows follow it: losing them loses no base.
CREATE TABLE bases (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix_id      bigint NOT NULL REFERENCES prefixes,
    -- When it began, `20261103T193000Z`: labels sort as time does.
    label          text COLLATE "C" NOT NULL,
    system_id      numeric(20) NOT NULL,
    segment_size   bigint NOT NULL,
    server_version integer NOT NULL,
    from_standby   boolean NOT NULL,
    start_lsn      pg_lsn NOT NULL,
    start_timeline bigint NOT NULL CHECK (start_timeline > 0),
    -- The end of the WAL without which the base is not consistent.
    stop_lsn       pg_lsn NOT NULL,
    stop_timeline  bigint NOT NULL CHECK (stop_timeline > 0),
    started_at     timestamptz NOT NULL,
    stopped_at     timestamptz NOT NULL,
    size_bytes     bigint NOT NULL CHECK (size_bytes >= 0),
    -- In each repository.
    stored_bytes   bigint NOT NULL CHECK (stored_bytes >= 0),
    -- Besides the data directory.
    tablespaces    integer NOT NULL CHECK (tablespaces >= 0),
    -- `walferry backups keep`: without a time for ever.
    keep           boolean NOT NULL DEFAULT false,
    keep_until     timestamptz,
    registered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (prefix_id, label),
    CHECK (stop_lsn >= start_lsn),
    CHECK (keep OR keep_until IS NULL)
);

CREATE TABLE base_copies (
    base_id    bigint NOT NULL REFERENCES bases ON DELETE CASCADE,
    repository text NOT NULL REFERENCES repositories,
    -- `dropped`: the cloud did not keep up, and gets the base later from another.
    state      text NOT NULL CHECK (state IN ('complete', 'dropped', 'removed')),
    reason     text,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (base_id, repository),
    CHECK (state = 'complete' OR reason IS NOT NULL)
);

-- One row per cluster: who takes a base now, and how the last try ended. However often a
-- server that is away is tried in vain, it stays one row.
CREATE TABLE base_runs (
    cluster_id   bigint PRIMARY KEY REFERENCES clusters,
    -- The fencing token: every run raises it, every write of a run repeats it.
    run          bigint NOT NULL DEFAULT 1,
    held_by      text,
    lease_until  timestamptz,
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at     timestamptz,
    outcome      text CHECK (outcome IN ('complete', 'partial', 'failed', 'no-server')),
    error        text,
    -- In a row. That no server is configured is no failure.
    failures     integer NOT NULL DEFAULT 0,
    failed_since timestamptz,
    succeeded_at timestamptz,
    CHECK ((held_by IS NULL) = (lease_until IS NULL))
);
