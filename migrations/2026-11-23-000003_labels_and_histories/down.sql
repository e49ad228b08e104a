DROP TABLE histories;
DROP TABLE labels;
