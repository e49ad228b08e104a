use walferry_catalog::CatalogError;

use crate::postgres;

/// Everything in the schema that a migration could leave behind or change.
const SHAPE: &str = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM ( \
    SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default) \
      FROM information_schema.columns WHERE table_schema = 'public' \
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
    UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) \
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace \
    UNION ALL SELECT definition FROM pg_views WHERE schemaname = 'public') AS l (line)";

async fn shape(catalog: &walferry_catalog::Catalog) -> Option<String> {
    use diesel_async::RunQueryDsl;
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
        shape: Option<String>,
    }
    let mut conn = catalog.get_unchecked().await.unwrap();
    diesel::sql_query(format!("SELECT ({SHAPE}) AS shape"))
        .get_result::<Row>(&mut *conn)
        .await
        .unwrap()
        .shape
}

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again_to_the_same_schema() {
    let catalog = postgres::catalog(&postgres::database().await);
    let all = catalog.pending().await.unwrap();
    assert!(all.len() >= 5, "{all:?}");
    let applied = catalog.migrate().await.unwrap();
    assert_eq!(applied.len(), all.len());
    assert!(catalog.pending().await.unwrap().is_empty());
    let first = shape(&catalog).await;
    // Each step down and up again by itself, newest first, then all of them.
    for steps in 1..=all.len() {
        for _ in 0..steps {
            assert!(catalog.revert_last().await.unwrap().is_some());
        }
        assert_eq!(catalog.pending().await.unwrap().len(), steps);
        assert_ne!(
            shape(&catalog).await,
            first,
            "{steps} steps down changed nothing"
        );
        assert_eq!(catalog.migrate().await.unwrap().len(), steps);
        assert_eq!(
            shape(&catalog).await,
            first,
            "after {steps} steps down and up"
        );
    }
    for _ in 0..all.len() {
        catalog.revert_last().await.unwrap();
    }
    assert_eq!(catalog.revert_last().await.unwrap(), None);
    let left = shape(&catalog).await.unwrap_or_default();
    for line in left.lines() {
        assert!(
            line.contains("__diesel_schema_migrations"),
            "left behind: {line}"
        );
    }
    assert_eq!(catalog.migrate().await.unwrap().len(), all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_migrations_at_once_apply_each_change_once() {
    let url = postgres::database().await;
    let all = postgres::catalog(&url).pending().await.unwrap().len();
    let runs: Vec<_> = (0..5)
        .map(|_| {
            let catalog = postgres::catalog(&url);
            tokio::spawn(async move { catalog.migrate().await })
        })
        .collect();
    let mut applied = 0;
    for run in runs {
        applied += run.await.unwrap().expect("migrate").len();
    }
    assert_eq!(applied, all);
}

#[tokio::test]
async fn an_older_schema_is_refused_and_names_the_command_that_helps() {
    let catalog = postgres::catalog(&postgres::database().await);
    let error = catalog.get().await.err().expect("an empty database");
    assert!(matches!(&error, CatalogError::SchemaOlder { pending } if pending.len() >= 5));
    assert!(error.hint().unwrap().contains("walferry catalog migrate"));

    catalog.migrate().await.unwrap();
    drop(catalog.get().await.expect("a migrated catalog"));
    let newest = catalog.revert_last().await.unwrap().unwrap();
    let error = catalog.get().await.err().expect("one change is missing");
    assert!(
        matches!(&error, CatalogError::SchemaOlder { pending } if pending.len() == 1
            && pending[0].starts_with(&newest[..4])),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_newer_schema_is_refused_readably() {
    use diesel_async::SimpleAsyncConnection as _;
    let catalog = postgres::catalog(&postgres::database().await);
    catalog.migrate().await.unwrap();
    catalog
        .get_unchecked()
        .await
        .unwrap()
        .batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')")
        .await
        .unwrap();
    let error = catalog.get().await.err().expect("an unknown migration");
    assert!(matches!(&error, CatalogError::SchemaNewer { version } if version == "99990101000000"));
    assert!(error.hint().unwrap().contains("upgrade"));
}

#[tokio::test]
async fn a_running_program_goes_on_under_a_newer_schema_and_only_a_new_one_is_refused() {
    use diesel_async::SimpleAsyncConnection as _;
    let url = postgres::database().await;
    let running = postgres::catalog(&url);
    running.migrate().await.unwrap();
    let mut conn = running.get().await.unwrap();
    conn.batch_execute(
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')",
    )
    .await
    .unwrap();
    drop(conn);
    drop(running.get().await.expect("it had seen its own schema"));
    let error = postgres::catalog(&url)
        .get()
        .await
        .err()
        .expect("started now");
    assert!(
        matches!(error, CatalogError::SchemaNewer { .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_that_waits_for_a_table_lets_others_at_it_meanwhile() {
    use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
    #[derive(diesel::QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        yes: bool,
    }
    let catalog = postgres::catalog(&postgres::database().await);
    catalog.migrate().await.unwrap();
    // Down to the newest migration that alters this table.
    let mut reverted = 0;
    loop {
        let name = catalog.revert_last().await.unwrap().unwrap();
        reverted += 1;
        if name.starts_with("20261125000009") {
            break;
        }
    }
    let mut long = catalog.get_unchecked().await.unwrap();
    long.batch_execute("BEGIN; SELECT 1 FROM wal_files")
        .await
        .unwrap();
    let migrating = tokio::spawn({
        let catalog = catalog.clone();
        async move { catalog.migrate().await }
    });
    let mut other = catalog.get_unchecked().await.unwrap();
    loop {
        let waiting = diesel::sql_query(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE relation = 'wal_files'::regclass \
              AND mode = 'AccessExclusiveLock' AND NOT granted) AS yes",
        );
        if waiting
            .get_result::<Waiting>(&mut *other)
            .await
            .unwrap()
            .yes
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Behind the change in the queue, which gives up its place.
    other
        .batch_execute("SELECT 1 FROM wal_files")
        .await
        .unwrap();
    assert!(
        !migrating.is_finished(),
        "the long transaction is still there"
    );
    long.batch_execute("COMMIT").await.unwrap();
    assert_eq!(migrating.await.unwrap().unwrap().len(), reverted);
    assert!(catalog.pending().await.unwrap().is_empty());
}
