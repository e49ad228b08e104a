ALTER TABLE wal_files DROP COLUMN lease_length;
