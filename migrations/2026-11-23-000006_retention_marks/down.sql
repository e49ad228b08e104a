DROP INDEX retention_runs_newest;
ALTER TABLE retention_runs DROP COLUMN renewed_at;
UPDATE copies SET verified_at = clock_timestamp() WHERE state = 'expiring' AND verified_at IS NULL;
ALTER TABLE copies DROP CONSTRAINT copies_check;
ALTER TABLE copies ADD CONSTRAINT copies_check CHECK (state = 'due' OR verified_at IS NOT NULL);
ALTER TABLE repositories
    ADD COLUMN compared_catalog uuid, ADD COLUMN compared_epoch bigint, ADD COLUMN compared_at timestamptz;
DROP TABLE compared_marks;
