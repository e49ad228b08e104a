-- A name is 24 hexadecimal digits: under the "C" collation names sort as WAL does.
CREATE TABLE wal_files (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix_id       bigint NOT NULL REFERENCES prefixes,
    name            text COLLATE "C" NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('segment', 'partial', 'history', 'backup')),
    -- A history file goes before every segment: recovery that finds segments of a timeline
    -- without its history cannot follow it.
    claim_rank      smallint GENERATED ALWAYS AS (CASE kind WHEN 'history' THEN 0 ELSE 1 END) STORED,
    timeline        bigint NOT NULL CHECK (timeline > 0),
    -- The middle and the last eight digits; null for a history file.
    log             bigint CHECK (log >= 0),
    seg             bigint CHECK (seg >= 0),
    sha256          bytea CHECK (octet_length(sha256) = 32),
    size_bytes      bigint CHECK (size_bytes >= 0),
    mtime           timestamptz,
    -- Written before the first PUT and reused by later attempts, so that a repeated PUT
    -- carries the same bytes.
    encoder         text,
    level           smallint,
    compressed_size bigint CHECK (compressed_size >= 0),
    compressed_md5  bytea CHECK (octet_length(compressed_md5) = 16),
    status          text NOT NULL DEFAULT 'PENDING'
                    CHECK (status IN ('PENDING', 'VERIFIED', 'EXPIRING', 'QUARANTINED')),
    registered_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    verified_at     timestamptz,
    -- The fencing token: every claim raises it, every write of a claim repeats it.
    attempt         integer NOT NULL DEFAULT 0,
    claimed_by      text,
    lease_until     timestamptz,
    crashes         integer NOT NULL DEFAULT 0,
    failures        integer NOT NULL DEFAULT 0,
    -- When the file may be claimed next; null when nothing is left to do.
    due_at          timestamptz DEFAULT clock_timestamp(),
    -- A claim did all it could and copies are still missing: found through `copies` when
    -- their repository is up, and out of the way of new files until then.
    parked          boolean NOT NULL DEFAULT false,
    last_error      text,
    last_cause      text,
    failed_at       timestamptz,
    UNIQUE (prefix_id, name),
    CHECK ((claimed_by IS NULL) = (lease_until IS NULL)),
    CHECK (status <> 'VERIFIED' OR (sha256 IS NOT NULL AND verified_at IS NOT NULL))
);

-- Only unfinished rows are in it: an idle tick costs the same at ten million rows, and a
-- claim the same however many files wait for a repository that is down.
CREATE INDEX wal_files_unfinished ON wal_files (prefix_id, claim_rank, name)
    WHERE due_at IS NOT NULL AND NOT parked;
CREATE INDEX wal_files_parked ON wal_files (prefix_id, claim_rank, name)
    WHERE due_at IS NOT NULL AND parked;
CREATE INDEX wal_files_leased ON wal_files (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX wal_files_verified_at ON wal_files (verified_at);
CREATE INDEX wal_files_failed ON wal_files (failed_at) WHERE failed_at IS NOT NULL;
CREATE INDEX wal_files_not_verified ON wal_files (status, prefix_id, name) WHERE status <> 'VERIFIED';

CREATE TABLE copies (
    file_id     bigint NOT NULL REFERENCES wal_files ON DELETE CASCADE,
    repository  text NOT NULL REFERENCES repositories,
    state       text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'verified', 'expiring')),
    required    boolean NOT NULL DEFAULT true,
    attempts    integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_since   timestamptz NOT NULL DEFAULT clock_timestamp(),
    parked      boolean NOT NULL DEFAULT false,
    last_error  text,
    cause       text,
    failed_at   timestamptz,
    stored_size bigint CHECK (stored_size >= 0),
    verify_mode text,
    verified_at timestamptz,
    PRIMARY KEY (file_id, repository),
    CHECK (state = 'due' OR verified_at IS NOT NULL)
);
CREATE INDEX copies_due ON copies (repository, due_at) WHERE state = 'due';
CREATE INDEX copies_parked ON copies (repository, due_at) WHERE state = 'due' AND parked;
CREATE INDEX copies_failed ON copies (failed_at) WHERE failed_at IS NOT NULL;
CREATE INDEX copies_expiring ON copies (repository, due_at) WHERE state = 'expiring';

-- Where the file lies on disk. One name may lie in two directories (the old and the new
-- primary), or be handed over again after it was deleted.
CREATE TABLE local_files (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id        bigint NOT NULL REFERENCES wal_files ON DELETE CASCADE,
    directory_id   bigint NOT NULL REFERENCES directories,
    dev            bigint NOT NULL,
    ino            bigint NOT NULL,
    size           bigint NOT NULL,
    mtime_ns       bigint NOT NULL,
    seen_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at     timestamptz,
    -- Set aside in place (its content is not what this name was archived with): never
    -- claimed, never deleted, until a person moves or replaces it.
    quarantined_at timestamptz,
    UNIQUE (file_id, directory_id)
);
CREATE INDEX local_files_live ON local_files (directory_id) WHERE deleted_at IS NULL;

CREATE TABLE suspects (
    directory_id bigint NOT NULL REFERENCES directories,
    name         text COLLATE "C" NOT NULL,
    reason_code  text NOT NULL,
    reason       text NOT NULL,
    critical     boolean NOT NULL,
    first_seen   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (directory_id, name)
);
