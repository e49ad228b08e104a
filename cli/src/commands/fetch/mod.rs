//! `walferry fetch`: PostgreSQL's `restore_command`.
//!
//! Needs the repositories and nothing else. Exit codes: 0 delivered, 1 certainly absent, 200
//! everything else, as PostgreSQL takes 1 to 125 for "there is no such file" and may promote.

mod ahead;
pub(crate) mod guard;
mod setup;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use walferry_fetch::ahead::{Space, Started, Taken};
use walferry_fetch::{Parent, Report, Request, Role, Search, Searched, Verdict, WorkingDirectory};
use walferry_proof::RepositoryName;
use walferry_wal::{SegmentName, SystemId, WalFile};

use self::setup::Setup;

pub(crate) use self::ahead::{AheadArgs, run as run_ahead};

/// What PostgreSQL passes, and what a person decides.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, in postgresql.conf:\n  restore_command = 'walferry fetch %f %p'\n\nWith one cloud gone for good, a person says who has to answer:\n  restore_command = 'walferry fetch --repository b2 %f %p'\n\n\
0: delivered, checked against its SHA-256, name and system. 1: every repository that was to be asked has shown that there is no such file. 200: anything else; recovery stops instead of promoting early. A standby (standby.signal in the working directory) is told 1 instead of 200, as it asks again by itself."
)]
pub(crate) struct FetchArgs {
    /// The file: %f in restore_command
    #[arg(value_name = "FILE")]
    file: String,
    /// Where to put it: %p in restore_command
    #[arg(value_name = "PATH")]
    destination: PathBuf,
    #[command(flatten)]
    whom: Whom,
    /// The last file that this recovery needs: absent up to it is a gap (200), beyond it final (1)
    #[arg(long, value_name = "FILE")]
    last: Option<WalFile>,
    /// Answer as to a standby, which asks again: 1 where nothing is known
    #[arg(long, conflicts_with = "recovery")]
    standby: bool,
    /// Answer as to a recovery, even with standby.signal here: 200 where nothing is known
    #[arg(long)]
    recovery: bool,
}

/// Whose WAL, and who has to answer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Whom {
    /// Ask this repository alone; may be repeated, in the order of asking [setting fetch.repositories]
    #[arg(long = "repository", value_name = "NAME")]
    repositories: Vec<RepositoryName>,
    /// The cluster [default: the only one]
    #[arg(long)]
    cluster: Option<String>,
}

/// Fetches the file and tells how it went; `file`, `set` and `json` are the global flags.
pub(crate) fn run(args: FetchArgs, file: Option<PathBuf>, set: &[String], json: bool) -> ExitCode {
    let role = match (args.standby, args.recovery) {
        (true, _) => Role::Standby,
        (_, true) => Role::Recovery,
        _ => Role::of_directory(Path::new(".")),
    };
    let mut report = Report::of(&args.file);
    let verdict = match fetch(&args, role, file, set, &mut report) {
        Ok(Searched::Delivered(delivered)) => Verdict::Delivered(delivered),
        Ok(Searched::Absent(absent)) => Verdict::NotThere(walferry_fetch::Final::Absent(absent)),
        Ok(Searched::NotKnown) => role.not_known(),
        Err(error) => {
            report.say(&super::push::sentence(error.as_ref()));
            role.not_known()
        }
    };
    let told = match &verdict {
        Verdict::Delivered(_) => "delivered",
        Verdict::NotThere(walferry_fetch::Final::Absent(_)) => "absent",
        Verdict::NotThere(walferry_fetch::Final::StandbyAsksAgain(_)) => {
            report.say(
                "not found out whether it exists; the standby is told that it does not, and asks again",
            );
            "unknown"
        }
        Verdict::NotKnown => {
            report.say(
                "not found out whether it exists: recovery stops here rather than end too early. HINT: start the server again when the cause above is gone, or name with --repository who has to answer",
            );
            "unknown"
        }
    };
    if json {
        let shown =
            serde_json::json!({ "file": args.file, "outcome": told, "messages": report.lines() });
        // Nobody may be reading, and that decides nothing.
        let _ = writeln!(std::io::stdout(), "{shown}");
    }
    ExitCode::from(verdict.code())
}

fn fetch(
    args: &FetchArgs,
    role: Role,
    file: Option<PathBuf>,
    set: &[String],
    report: &mut Report,
) -> anyhow::Result<Searched> {
    let parent = Parent::bind()?;
    let request = Request {
        file: args.file.parse()?,
        destination: args.destination.clone(),
        last: args.last,
        system: WorkingDirectory::look(Path::new("."))?.system,
    };
    let setup = Setup::load(&args.whom, file.clone(), set)?;
    if let Some(note) = &setup.note {
        report.say(note);
    }
    let ahead = Prefetch::of(args, &request, &setup, file, set, report);
    if let Some(ahead) = &ahead
        && let Some(searched) = ahead.take(&request, &parent, report)?
    {
        return Ok(searched);
    }
    let mut began = false;
    let mut noted = Vec::new();
    let mut found = || {
        // As early as possible: the next segments are on their way while this one is.
        if let Some(ahead) = &ahead
            && !std::mem::replace(&mut began, true)
        {
            noted.extend(ahead.reached(&request));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let search = Search {
        archive: &setup.archive,
        request: &request,
        retry_for: match role {
            Role::Recovery => setup.settings.retry_for,
            // It asks again by itself, and streaming and a promotion would wait behind us.
            Role::Standby => std::time::Duration::ZERO,
        },
        parent: &parent,
        found: &mut found,
    };
    let searched = runtime.block_on(search.run(report));
    // A name that is still being resolved must not hold up the answer.
    runtime.shutdown_background();
    for note in noted {
        report.say(&note);
    }
    if let (Some(ahead), WalFile::History(timeline), Searched::Delivered(_)) =
        (&ahead, request.file, &searched)
    {
        // Nothing is fetched ahead where it cannot be written: the next segment says so.
        let _ = ahead.space.follows(timeline);
    }
    Ok(searched)
}

/// What was and will be fetched ahead. Whatever fails here is said, and the segment is fetched
/// as if there were none.
struct Prefetch {
    space: Space,
    system: SystemId,
    arguments: Vec<OsString>,
}

impl Prefetch {
    /// Only for a data directory: elsewhere nobody asks for the next segment.
    fn of(
        args: &FetchArgs,
        request: &Request,
        setup: &Setup,
        file: Option<PathBuf>,
        set: &[String],
        report: &mut Report,
    ) -> Option<Self> {
        let system = request.system?;
        if setup.settings.prefetch == 0 {
            return None;
        }
        match request.file {
            WalFile::Segment(_) | WalFile::History(_) => {}
            WalFile::Partial(_) | WalFile::Label { .. } => return None,
        }
        let space = match setup.space(system) {
            Ok(space) => space,
            Err(error) => {
                report.say(&format!(
                    "nothing is fetched ahead: {}",
                    super::push::sentence(&error)
                ));
                return None;
            }
        };
        Some(Self {
            space,
            system,
            arguments: ahead::arguments(&args.whom, system, file, set),
        })
    }

    /// Takes the segment, if it is there.
    fn take(
        &self,
        request: &Request,
        parent: &Parent,
        report: &mut Report,
    ) -> anyhow::Result<Option<Searched>> {
        let WalFile::Segment(segment) = request.file else {
            return Ok(None);
        };
        let taken = self
            .space
            .deliver(&segment, self.system, &request.destination, parent)?;
        match taken {
            Taken::Delivered(delivered) => {
                for note in self.advance(&segment) {
                    report.say(&note);
                }
                Ok(Some(Searched::Delivered(delivered)))
            }
            Taken::Nothing => Ok(None),
            Taken::Unfit(why) => {
                report.say(&why);
                Ok(None)
            }
        }
    }

    /// Recovery is about to get this file.
    fn reached(&self, request: &Request) -> Vec<String> {
        match request.file {
            WalFile::Segment(segment) => self.advance(&segment),
            WalFile::History(_) | WalFile::Partial(_) | WalFile::Label { .. } => Vec::new(),
        }
    }

    fn advance(&self, segment: &SegmentName) -> Vec<String> {
        let started = self
            .space
            .reached(segment)
            .and_then(|()| walferry_fetch::ahead::start(&self.space, &self.arguments));
        match started {
            Ok(Started::Running) => Vec::new(),
            Ok(Started::Resting(reason)) => {
                vec![format!("nothing is fetched ahead at the moment: {reason}")]
            }
            Err(error) => vec![format!(
                "nothing is fetched ahead: {error} in `{}` (fetch.directory)",
                self.space.path().display()
            )],
        }
    }
}
