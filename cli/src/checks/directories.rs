//! The archive directories, tried with the rights of whoever runs the check.

use walferry_config::Clusters;
use walferry_spool::{Directory, DirectoryError, Severity};

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
                Err(error) => findings.push(cannot_be_opened(what, error)),
            }
        }
    }
    Ok(findings)
}

/// A right that is missing is known to be missing; any other reason may be that this host is
/// not the one that has the directory.
fn cannot_be_opened(what: String, error: DirectoryError) -> Finding {
    let (level, code, elsewhere) = match &error {
        DirectoryError::Denied { .. } => (Level::Critical, "permissions", None),
        DirectoryError::Missing { .. }
        | DirectoryError::NotADirectory { .. }
        | DirectoryError::Io { .. } => (
            Level::Unknown,
            "directory",
            Some("run the check where the directory is mounted, as the worker's user"),
        ),
    };
    let told = format!("{:#}", anyhow::Error::new(error));
    match (told.split_once(". HINT: "), elsewhere) {
        (Some((message, hint)), None) => Finding::new(level, what, code, message, Some(hint)),
        (_, hint) => Finding::new(level, what, code, told, hint),
    }
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
