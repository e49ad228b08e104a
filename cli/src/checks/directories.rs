//! The archive directories, tried with the rights of whoever runs the check.

use walferry_config::Clusters;
use walferry_spool::{Directory, Severity};

use crate::{
    commands::check::{Finding, Level},
    context::Context,
};

pub(super) fn check(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let clusters = ctx.get::<Clusters>()?;
    let mut findings = Vec::new();
    for cluster in clusters.iter() {
        for configured in &cluster.directories {
            let what = format!("directory {}", configured.path.display());
            match Directory::open(&configured.path) {
                Ok(directory) => findings.extend(permissions(&what, &directory)),
                Err(error) => findings.push(Finding::new(
                    Level::Unknown,
                    what,
                    "directory",
                    format!("{:#}", anyhow::Error::new(error)),
                    Some("run the check where the directory is mounted, as the worker's user"),
                )),
            }
        }
    }
    Ok(findings)
}

fn permissions(what: &str, directory: &Directory) -> Vec<Finding> {
    walferry_spool::check_permissions(directory)
        .into_iter()
        .map(|found| {
            let (level, code) = match found.severity {
                Severity::Ok => (Level::Ok, "permissions"),
                Severity::Warning => (Level::Warning, "permissions"),
                Severity::Missing => (Level::Critical, "permissions"),
            };
            let hint = Some(found.hint).filter(|hint| !hint.is_empty());
            Finding::new(
                level,
                what,
                code,
                format!("{}: {}", found.what, found.message),
                hint,
            )
        })
        .collect()
}
