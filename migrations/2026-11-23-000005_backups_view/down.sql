DROP VIEW backups;
