//! `walferry ls`: the archived files.

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use walferry_catalog::{clusters, status};

use crate::{
    context::Context,
    output::{bytes, table},
};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry ls --limit 20\n  walferry ls --status PENDING\n  walferry ls --from 000000010000000000000010 --to 000000010000000000000020 --json"
)]
pub(crate) struct Args {
    /// Only this cluster
    #[arg(long)]
    cluster: Option<String>,
    /// PENDING, VERIFIED or EXPIRING
    #[arg(long)]
    status: Option<status::Status>,
    /// First name, included
    #[arg(long)]
    from: Option<String>,
    /// Last name, included
    #[arg(long)]
    to: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

#[derive(serde::Serialize)]
struct File {
    cluster: String,
    name: String,
    key: String,
    status: String,
    sha256: Option<String>,
    size: Option<u64>,
    compressed_size: Option<u64>,
    encoder: Option<String>,
    level: Option<i32>,
    closed_at: Option<DateTime<Utc>>,
    verified_at: Option<DateTime<Utc>>,
    copies: Vec<CopyOf>,
    local_paths: Vec<String>,
    last_error: Option<String>,
}

#[derive(serde::Serialize)]
struct CopyOf {
    repository: String,
    state: String,
    error: Option<String>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let cluster = match &args.cluster {
        Some(name) => Some(
            clusters::clusters(&mut conn)
                .await?
                .into_iter()
                .find(|row| row.name == *name)
                .with_context(|| format!("the catalog knows no cluster `{name}`"))?
                .id,
        ),
        None => None,
    };
    let filter = status::Filter {
        cluster,
        status: args.status,
        from: args.from,
        to: args.to,
        limit: args.limit,
        ..status::Filter::default()
    };
    let files: Vec<File> = status::list(&mut conn, &filter)
        .await?
        .into_iter()
        .map(|row| File {
            key: format!("{}{}.gz", row.key_prefix, row.file),
            cluster: row.cluster,
            name: row.file.to_string(),
            status: row.status.as_str().to_owned(),
            sha256: row.sha256.map(|sha256| sha256.to_string()),
            size: row.size,
            compressed_size: row.compressed_size,
            encoder: row.encoder,
            level: row.level,
            closed_at: row.mtime,
            verified_at: row.verified_at,
            copies: row
                .copies
                .into_iter()
                .map(|copy| CopyOf {
                    repository: copy.repository.to_string(),
                    state: format!("{:?}", copy.state).to_lowercase(),
                    error: copy.error,
                })
                .collect(),
            local_paths: row.local_paths,
            last_error: row.last_error,
        })
        .collect();
    ctx.output.show(&files, |files| {
        let rows: Vec<Vec<String>> = files.iter().map(row).collect();
        table(
            &[
                "file",
                "original",
                "compressed",
                "saved",
                "copies",
                "status",
            ],
            &rows,
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn row(file: &File) -> Vec<String> {
    let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), bytes);
    let saved = match (file.size, file.compressed_size) {
        (Some(plain @ 1..), Some(stored)) => {
            format!("{:.1} %", 100.0 * (1.0 - stored as f64 / plain as f64))
        }
        _ => "-".to_owned(),
    };
    let copies: Vec<String> = file
        .copies
        .iter()
        .map(|copy| format!("{} {}", copy.repository, copy.state))
        .collect();
    vec![
        file.name.clone(),
        size(file.size),
        size(file.compressed_size),
        saved,
        copies.join(", "),
        file.status.clone(),
    ]
}
