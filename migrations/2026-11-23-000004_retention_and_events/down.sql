DROP TABLE events;
DROP TABLE retention_runs;
DROP TABLE holds;
DROP TABLE tombstones;
