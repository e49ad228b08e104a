-- Why the last try to scan the directory failed; null when it did not.
ALTER TABLE directories ADD COLUMN scan_error text;
