-- Which catalog this is. A catalog restored from its own backup has an old epoch, a new one
-- has an id that no bucket knows: retention refuses to act in both until it was compared.
CREATE TABLE catalog_identity (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    epoch      bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO catalog_identity DEFAULT VALUES;

CREATE TABLE clusters (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One PostgreSQL system per prefix: pg_upgrade makes a new system id and needs a new prefix.
CREATE TABLE prefixes (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_id   bigint NOT NULL REFERENCES clusters,
    key_prefix   text COLLATE "C" NOT NULL UNIQUE,
    system_id    numeric(20),
    segment_size bigint,
    opened_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at    timestamptz
);
CREATE UNIQUE INDEX prefixes_one_open ON prefixes (cluster_id) WHERE closed_at IS NULL;

CREATE TABLE directories (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_id      bigint NOT NULL REFERENCES clusters,
    name            text NOT NULL,
    path            text NOT NULL,
    last_scan_at    timestamptz,
    last_scan_by    text,
    last_arrival_at timestamptz,
    files           bigint,
    bytes           bigint,
    fs_total        bigint,
    fs_available    bigint,
    UNIQUE (cluster_id, name)
);

CREATE TABLE repositories (
    name             text PRIMARY KEY,
    first_seen       timestamptz NOT NULL DEFAULT clock_timestamp(),
    breaker_state    text NOT NULL DEFAULT 'unknown'
                     CHECK (breaker_state IN ('unknown', 'closed', 'open', 'half-open')),
    breaker_since    timestamptz,
    breaker_cause    text,
    last_success_at  timestamptz,
    last_failure_at  timestamptz,
    last_error       text,
    reported_at      timestamptz,
    compared_catalog uuid,
    compared_epoch   bigint,
    compared_at      timestamptz
);

CREATE TABLE owner_marks (
    prefix_id  bigint NOT NULL REFERENCES prefixes ON DELETE CASCADE,
    repository text NOT NULL REFERENCES repositories,
    state      text NOT NULL CHECK (state IN ('unknown', 'ours', 'foreign', 'unimported')),
    detail     text NOT NULL DEFAULT '',
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (prefix_id, repository)
);
