ALTER TABLE directories DROP COLUMN scan_error;
