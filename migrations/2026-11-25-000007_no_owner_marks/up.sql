-- Nothing ever wrote here: whose a prefix is, its own mark in the bucket says.
DROP TABLE owner_marks;
