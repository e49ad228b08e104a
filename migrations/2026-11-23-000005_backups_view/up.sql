-- The old system's relation, with its columns and their meaning.
CREATE VIEW backups AS
SELECT 'WAL_ARCHIVE'::text                                 AS backup_type,
       f.name || '.gz'                                     AS filename,
       f.compressed_size                                   AS size_bytes,
       encode(f.sha256, 'hex')                             AS checksum,
       coalesce((SELECT d.path || '/' || f.name
                   FROM local_files l JOIN directories d ON d.id = l.directory_id
                  WHERE l.file_id = f.id AND l.deleted_at IS NULL
                  ORDER BY l.id LIMIT 1), '')              AS local_path,
       (SELECT p.key_prefix || f.name || '.gz' FROM copies c
         WHERE c.file_id = f.id AND c.repository = 'r2' AND c.state = 'verified') AS r2_path,
       (SELECT p.key_prefix || f.name || '.gz' FROM copies c
         WHERE c.file_id = f.id AND c.repository = 'b2' AND c.state = 'verified') AS b2_path,
       f.status                                            AS status,
       round(1 - f.compressed_size::numeric / nullif(f.size_bytes, 0), 4)::double precision
                                                           AS compression_ratio,
       f.registered_at                                     AS created_at,
       f.verified_at                                       AS verified_at
  FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id;
