use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::file::{self, File, Raw};
use crate::problem::{Problem, Problems};
use crate::reader::{Reader, Section};
use crate::sections;
use crate::setting::{Key, Kind, Setting, settings};
use crate::sources::Sources;
use crate::suggest::nearest;
use crate::value;

/// What was said, by whom and where; sections are resolved from it on demand.
pub struct Config {
    sources: Sources,
    file: File,
    has_file: bool,
    unknown: Vec<Problem>,
}

/// One line of `walferry config check`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effective {
    pub name: String,
    /// Redacted; empty when nothing sets it.
    pub value: String,
    /// `default`, `FILE:LINE`, `environment NAME`, `flag …` or `not set`.
    pub origin: String,
    pub secret: bool,
}

/// A raw value and who gave it.
pub(crate) struct Found {
    pub(crate) raw: Raw,
    pub(crate) origin: String,
    /// The raw value is the path of a file that holds the secret.
    pub(crate) is_path: bool,
}

impl Config {
    /// Reads the file, if there is one, and finds what nobody knows.
    ///
    /// # Errors
    /// A file that was named and cannot be read (the default one may be
    /// missing, but not unreadable), or is not TOML. Unknown names are told by
    /// whatever is resolved first, together with its own problems.
    pub fn load(sources: Sources) -> Result<Self, Problems> {
        let named = sources.file.clone().or_else(|| {
            let path = sources.environment.get("WALFERRY_CONFIG")?;
            Some(PathBuf::from(path))
        });
        let path = named.or_else(|| {
            let exists = |path: &PathBuf| path.try_exists().unwrap_or(true);
            sources.default_file.clone().filter(exists)
        });
        let file = match &path {
            Some(path) => file::read(path)?,
            None => File::default(),
        };
        Ok(Self::new(sources, file, path.is_some()))
    }

    /// As [`Config::load`], of a file whose text is `text`; nothing is read.
    ///
    /// # Errors
    /// When it is not TOML.
    pub fn of_text(sources: Sources, path: &Path, text: &str) -> Result<Self, Problems> {
        let file = file::parse(path, text)?;
        Ok(Self::new(sources, file, true))
    }

    fn new(sources: Sources, file: File, has_file: bool) -> Self {
        let mut config = Self {
            sources,
            file,
            has_file,
            unknown: Vec::new(),
        };
        config.unknown = config.find_unknown();
        config
    }

    /// As [`Config::load`], for a program that has to go on without a default
    /// file: one that cannot be read is left out, and what is wrong with it told.
    ///
    /// # Errors
    /// What is wrong with a file that somebody named.
    pub fn load_tolerant(sources: Sources) -> Result<(Self, Option<Problems>), Problems> {
        match Self::load(sources.clone()) {
            Ok(config) => Ok((config, None)),
            Err(problems) => {
                let default_file = None;
                let config = Self::load(Sources {
                    default_file,
                    ..sources
                })?;
                Ok((config, Some(problems)))
            }
        }
    }

    /// The file that was read.
    pub fn path(&self) -> Option<&Path> {
        self.has_file.then_some(self.file.path.as_path())
    }

    /// A section, or a tuple of them.
    ///
    /// # Errors
    /// Everything that is wrong with them, and every unknown name.
    pub fn get<S: Section>(&self) -> Result<S, Problems> {
        let mut reader = Reader::new(self);
        let section = S::read(&mut reader);
        let problems = self.unknown.iter().cloned().chain(reader.into_problems());
        match (Problems::collect(problems), section) {
            (Some(problems), _) => Err(problems),
            (None, Some(section)) => Ok(section),
            (None, None) => unreachable!("a section that cannot be read says why"),
        }
    }

    /// As [`Config::get`], but what nobody knows is no error: for a program
    /// that has to go on when another one's part of the file is mistyped.
    pub fn get_tolerant<S: Section>(&self) -> Result<S, Problems> {
        let mut reader = Reader::new(self);
        let section = S::read(&mut reader);
        match (Problems::collect(reader.into_problems()), section) {
            (Some(problems), _) => Err(problems),
            (None, Some(section)) => Ok(section),
            (None, None) => unreachable!("a section that cannot be read says why"),
        }
    }

    /// Unknown names, for who used [`Config::get_tolerant`].
    pub fn unknown(&self) -> &[Problem] {
        &self.unknown
    }

    /// Every section, as `walferry config check` does.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), Problems> {
        self.get::<sections::Everything>().map(drop)
    }

    /// Every setting with its value, secrets redacted, and who gave it. Reads
    /// no secret file.
    pub fn effective(&self) -> Vec<Effective> {
        let keys = settings().into_iter().flat_map(|setting| {
            let instances = sections::instances(self, setting);
            instances.into_iter().map(|instance| setting.of(&instance))
        });
        keys.map(|key| self.show(&key)).collect()
    }

    fn show(&self, key: &Key) -> Effective {
        let (value, origin) = match self.lookup(key) {
            Ok(Some(found)) => (shown(key.setting.kind, &found), found.origin),
            Ok(None) => (String::new(), "not set".to_owned()),
            Err(problem) => (String::new(), problem.message),
        };
        Effective {
            name: key.name.clone(),
            value,
            origin,
            secret: key.setting.is_secret(),
        }
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.sources.environment
    }

    /// The names below `group` (`clusters`) that file and flags mention.
    pub(crate) fn mentioned(&self, group: &str) -> BTreeSet<&str> {
        let names = self.file.values.keys().chain(self.file.empty.keys());
        let names = names.chain(self.sources.flags.keys());
        names
            .filter_map(|name| {
                let rest = name.strip_prefix(group)?.strip_prefix('.')?;
                rest.split('.').next()
            })
            .collect()
    }

    /// What `*` stands for where a flag gives `setting`.
    pub(crate) fn flagged(&self, setting: &Setting) -> Vec<String> {
        let names = self.sources.flags.keys();
        names
            .filter_map(|name| setting.matches(name).map(str::to_owned))
            .collect()
    }

    /// Flag, environment, file, default: the first that speaks.
    pub(crate) fn lookup(&self, key: &Key) -> Result<Option<Found>, Problem> {
        for layer in [Self::in_flags, Self::in_environment, Self::in_file] {
            if let Some(found) = layer(self, key)? {
                return Ok(Some(found));
            }
        }
        Ok(key.default().map(|text| Found {
            raw: Raw::Text(text),
            origin: "default".to_owned(),
            is_path: false,
        }))
    }

    fn in_flags(&self, key: &Key) -> Result<Option<Found>, Problem> {
        let given = names(key).into_iter().filter_map(|(name, is_path)| {
            let (raw, origin) = self.sources.flags.get(&name)?;
            Some(Found {
                raw: raw.clone(),
                origin: origin.clone(),
                is_path,
            })
        });
        one(key, given.collect())
    }

    fn in_environment(&self, key: &Key) -> Result<Option<Found>, Problem> {
        let environment = self.environment();
        let mut given = Vec::new();
        for name in key.environment() {
            let with_path = format!("{name}_FILE");
            let forms = [(name, false), (with_path, true)];
            for (name, is_path) in forms {
                if is_path && !key.setting.is_secret() {
                    continue;
                }
                let origin = format!("environment {name}");
                if environment.is_not_text(&name) {
                    return Err(Problem {
                        subject: format!("`{}` ({origin})", key.name),
                        message: "the value is not UTF-8".to_owned(),
                        hint: "set it to text".to_owned(),
                    });
                }
                if let Some(text) = environment.get(&name) {
                    given.push(Found {
                        raw: Raw::Text(text.to_owned()),
                        origin,
                        is_path,
                    });
                }
            }
        }
        one(key, given)
    }

    fn in_file(&self, key: &Key) -> Result<Option<Found>, Problem> {
        let given = names(key).into_iter().filter_map(|(name, is_path)| {
            let (raw, line) = self.file.values.get(&name)?;
            Some(Found {
                raw: raw.clone(),
                origin: format!("{}:{line}", self.file.path.display()),
                is_path,
            })
        });
        one(key, given.collect())
    }

    fn find_unknown(&self) -> Vec<Problem> {
        let settings = settings();
        let known = |name: &str| {
            settings.iter().any(|setting| {
                let of_file = || name.strip_suffix("_file").and_then(|n| setting.matches(n));
                setting.matches(name).is_some() || setting.is_secret() && of_file().is_some()
            })
        };
        let file = self
            .file
            .values
            .iter()
            .map(|(name, (_, line))| (name, format!("{}:{line}", self.file.path.display())));
        let flags = self.sources.flags.iter();
        let flags = flags.map(|(name, (_, origin))| (name, origin.clone()));
        let mut unknown = self.file.odd.clone();
        for (name, line) in &self.file.empty {
            if !settings.iter().any(|setting| setting.is_below(name)) {
                let origin = format!("{}:{line}", self.file.path.display());
                let message = "no setting has a section of this name";
                unknown.push(stranger(name, &origin, message, None));
            }
        }
        for (name, origin) in flags.chain(file).filter(|(name, _)| !known(name)) {
            let meant = nearest(name, settings.iter().map(|setting| setting.name));
            unknown.push(stranger(name, &origin, "no setting has this name", meant));
        }

        let mut variables = BTreeSet::from(["WALFERRY_CONFIG".to_owned()]);
        for setting in &settings {
            for instance in sections::instances(self, setting) {
                for name in setting.of(&instance).environment() {
                    if setting.is_secret() {
                        variables.insert(format!("{name}_FILE"));
                    }
                    variables.insert(name);
                }
            }
        }
        for name in self.environment().ours() {
            if !variables.contains(name) {
                let meant = nearest(name, variables.iter().map(String::as_str));
                let message = "no setting reads this variable";
                unknown.push(stranger(name, "environment", message, meant));
            }
        }
        unknown
    }
}

/// Raw values may be secrets, so none is shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("sources", &self.sources)
            .field("file", &self.path())
            .finish_non_exhaustive()
    }
}

fn names(key: &Key) -> Vec<(String, bool)> {
    let mut names = vec![(key.name.clone(), false)];
    if key.setting.is_secret() {
        names.push((format!("{}_file", key.name), true));
    }
    names
}

/// Two names for one setting in one layer: which one is meant would be a
/// guess, and after a rotated secret a wrong one.
fn one(key: &Key, mut given: Vec<Found>) -> Result<Option<Found>, Problem> {
    let differ = |a: &Found, b: &Found| match (&a.raw, &b.raw) {
        (Raw::Text(x), Raw::Text(y)) => x != y || a.is_path != b.is_path,
        _ => true,
    };
    if let [first, .., last] = given.as_slice()
        && given.iter().any(|found| differ(first, found))
    {
        return Err(Problem {
            subject: format!("`{}`", key.name),
            message: format!("given twice: {} and {}", first.origin, last.origin),
            hint: "keep one of the two".to_owned(),
        });
    }
    given.truncate(1);
    Ok(given.pop())
}

fn stranger(name: &str, origin: &str, message: &str, meant: Option<&str>) -> Problem {
    Problem {
        subject: format!("`{name}` ({origin})"),
        message: message.to_owned(),
        hint: match meant {
            Some(meant) => format!("was `{meant}` meant? docs/configuration.md lists them all"),
            None => "docs/configuration.md lists them all".to_owned(),
        },
    }
}

fn shown(kind: Kind, found: &Found) -> String {
    match (&found.raw, kind) {
        // A secret that somebody put where the path of its file belongs is no path.
        (Raw::Text(path), _) if found.is_path && !path.starts_with('/') => "***".to_owned(),
        (Raw::Text(path), _) if found.is_path => format!("*** (in {path})"),
        (Raw::Text(text), Kind::Plain) => value::without_user(text),
        (Raw::List(texts), Kind::Plain) => {
            let texts: Vec<String> = texts.iter().map(|text| value::without_user(text)).collect();
            texts.join(", ")
        }
        (Raw::Text(text), Kind::SecretUrl) => value::redacted_url(text),
        (Raw::List(_), Kind::SecretUrl) | (_, Kind::Secret) => "***".to_owned(),
    }
}
