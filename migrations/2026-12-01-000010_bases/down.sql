DROP TABLE base_runs;
DROP TABLE base_copies;
DROP TABLE bases;
