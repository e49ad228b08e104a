use walferry_catalog::{CopyFailure, Enough, completion};

use crate::world::{World, content, proof, repository, segment};

#[tokio::test]
async fn the_old_systems_relation_has_its_columns_with_their_meaning() {
    let mut world = World::new().await;
    let columns = world
        .value(
            "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) \
               FROM information_schema.columns WHERE table_name = 'backups'",
        )
        .await;
    assert_eq!(
        columns.as_deref(),
        Some(
            "backup_type,filename,size_bytes,checksum,local_path,r2_path,b2_path,status,\
             compression_ratio,created_at,verified_at"
        )
    );

    world.register_segments(1).await;
    let row = "SELECT concat_ws('|', backup_type, filename, coalesce(size_bytes::text, '-'), \
               coalesce(checksum, '-'), local_path, coalesce(r2_path, '-'), coalesce(b2_path, '-'), status, \
               coalesce(compression_ratio::text, '-'), created_at IS NOT NULL, verified_at IS NOT NULL) FROM backups";
    let name = segment(1);
    assert_eq!(
        world.value(row).await.unwrap(),
        format!("WAL_ARCHIVE|{name}.gz|-|-|/archive/{name}|-|-|PENDING|-|t|f")
    );

    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let failure = CopyFailure {
        repository: repository("b2"),
        error: "503".to_owned(),
        cause: "server-error".to_owned(),
        retry_after: std::time::Duration::ZERO,
    };
    let _ = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "r2")],
        vec![failure],
        Enough::AllRequired,
    )
    .await
    .unwrap();
    let sha256 = content(&name);
    assert_eq!(
        world.value(row).await.unwrap(),
        format!(
            "WAL_ARCHIVE|{name}.gz|503316|{sha256}|/archive/{name}|wal/{name}.gz|-|PENDING|0.97|t|f"
        )
    );

    let claim = world.claim_one("w").await;
    world.archive(&claim).await;
    assert_eq!(
        world.value(row).await.unwrap(),
        format!(
            "WAL_ARCHIVE|{name}.gz|503316|{sha256}||wal/{name}.gz|wal/{name}.gz|VERIFIED|0.97|t|t"
        )
    );
}
