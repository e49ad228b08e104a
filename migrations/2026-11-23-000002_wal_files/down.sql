DROP TABLE suspects;
DROP TABLE local_files;
DROP TABLE copies;
DROP TABLE wal_files;
