-- What retention deleted: the name and the hash outlive the object.
CREATE TABLE tombstones (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix_id  bigint NOT NULL REFERENCES prefixes,
    name       text COLLATE "C" NOT NULL,
    sha256     bytea NOT NULL,
    size_bytes bigint NOT NULL,
    archived_at timestamptz,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason     text NOT NULL
);
CREATE INDEX tombstones_by_name ON tombstones (prefix_id, name);

CREATE TABLE holds (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_id  bigint REFERENCES clusters,
    reason      text NOT NULL,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_at timestamptz,
    released_by text
);
CREATE INDEX holds_active ON holds (cluster_id) WHERE released_at IS NULL;

CREATE TABLE retention_runs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_id  bigint NOT NULL REFERENCES clusters,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    planned     bigint NOT NULL DEFAULT 0,
    deleted     bigint NOT NULL DEFAULT 0,
    failed      bigint NOT NULL DEFAULT 0,
    window_proven boolean,
    outcome     text
);

-- What a person should know of, newest last; capped by the code that writes it.
CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    severity   text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    code       text NOT NULL,
    cluster_id bigint REFERENCES clusters,
    message    text NOT NULL
);
CREATE INDEX events_at ON events (at);
