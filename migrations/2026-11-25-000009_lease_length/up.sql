-- In seconds: a lease that lies further ahead than it is long was taken before the catalog's
-- clock was set back, and is cut. Unknown for what an older worker claimed.
ALTER TABLE wal_files ADD COLUMN lease_length double precision;
