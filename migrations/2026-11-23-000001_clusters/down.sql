DROP TABLE owner_marks;
DROP TABLE repositories;
DROP TABLE directories;
DROP TABLE prefixes;
DROP TABLE clusters;
DROP TABLE catalog_identity;
