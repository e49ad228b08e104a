-- Base backups known from archived `.backup` labels. A label proves that a base was made,
-- not that it still exists: it can make retention keep more, never delete more.
CREATE TABLE labels (
    file_id       bigint PRIMARY KEY REFERENCES wal_files ON DELETE CASCADE,
    prefix_id     bigint NOT NULL REFERENCES prefixes,
    timeline      bigint NOT NULL,
    start_lsn     pg_lsn NOT NULL,
    stop_lsn      pg_lsn NOT NULL,
    start_segment text COLLATE "C" NOT NULL,
    stop_segment  text COLLATE "C" NOT NULL,
    started_at    timestamptz,
    stopped_at    timestamptz,
    label         text NOT NULL,
    backup_from   text NOT NULL CHECK (backup_from IN ('primary', 'standby'))
);
CREATE INDEX labels_by_prefix ON labels (prefix_id, start_segment);

CREATE TABLE histories (
    prefix_id bigint NOT NULL REFERENCES prefixes,
    timeline  bigint NOT NULL,
    content   bytea NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (prefix_id, timeline)
);
