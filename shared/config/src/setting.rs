use crate::sections;

/// One thing that can be set: the single home of its name and its default.
#[derive(Debug)]
pub struct Setting {
    /// The TOML name; `*` stands for the name of a cluster, repository or job.
    pub name: &'static str,
    pub default: Preset,
    pub kind: Kind,
    /// The old system's environment names: (what `*` is, variable).
    pub old: &'static [(&'static str, &'static str)],
    pub about: &'static str,
}

/// What holds when nobody says anything. Written as an operator would write it
/// and read by the same parser.
#[derive(Debug)]
pub enum Preset {
    /// No default; whether the setting is needed is the section's business.
    Unset,
    Text(&'static str),
    /// By the name that `*` stands for; `*` is every other name.
    ByName(&'static [(&'static str, &'static str)]),
    /// Another crate's default, asked for and not repeated.
    Of(fn() -> String),
    /// Depends on the machine; the text says how.
    Found(fn() -> String, &'static str),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Plain,
    /// A URL that may hold a password: shown without user, password and query.
    SecretUrl,
    /// Never shown.
    Secret,
}

/// Every setting there is, in the order of the documentation.
pub fn settings() -> Vec<&'static Setting> {
    sections::all()
}

impl Setting {
    pub(crate) const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            default: Preset::Unset,
            kind: Kind::Plain,
            old: &[],
            about,
        }
    }

    pub(crate) const fn default(mut self, text: &'static str) -> Self {
        self.default = Preset::Text(text);
        self
    }

    pub(crate) const fn default_by_name(
        mut self,
        texts: &'static [(&'static str, &'static str)],
    ) -> Self {
        self.default = Preset::ByName(texts);
        self
    }

    pub(crate) const fn default_found(mut self, find: fn() -> String, what: &'static str) -> Self {
        self.default = Preset::Found(find, what);
        self
    }

    pub(crate) const fn default_of(mut self, find: fn() -> String) -> Self {
        self.default = Preset::Of(find);
        self
    }

    pub(crate) const fn secret(mut self) -> Self {
        self.kind = Kind::Secret;
        self
    }

    pub(crate) const fn secret_url(mut self) -> Self {
        self.kind = Kind::SecretUrl;
        self
    }

    pub(crate) const fn old(mut self, names: &'static [(&'static str, &'static str)]) -> Self {
        self.old = names;
        self
    }

    pub fn is_secret(&self) -> bool {
        self.kind != Kind::Plain
    }

    /// The environment name; `*` is written `<NAME>`.
    pub fn environment(&self) -> String {
        environment_name(self.name).replace('*', "<NAME>")
    }

    /// The default as an operator would write it, for people to read.
    pub fn default_text(&self) -> String {
        match &self.default {
            Preset::Unset => String::new(),
            Preset::Text(text) => (*text).to_owned(),
            Preset::Of(find) => find(),
            Preset::Found(_, what) => (*what).to_owned(),
            Preset::ByName(texts) => {
                let texts: Vec<String> = texts
                    .iter()
                    .map(|(name, text)| match *name {
                        "*" => format!("{text} (others)"),
                        name => format!("{text} ({name})"),
                    })
                    .collect();
                texts.join(", ")
            }
        }
    }

    /// This setting of the cluster, repository or job called `instance`.
    pub(crate) fn of(&'static self, instance: &str) -> Key {
        Key {
            name: self.name.replacen('*', instance, 1),
            instance: instance.to_owned(),
            setting: self,
        }
    }

    /// What `*` stands for in `name`, if `name` is this setting.
    pub(crate) fn matches<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.name.split_once('*') {
            None => (name == self.name).then_some(""),
            Some((before, after)) => {
                let instance = name.strip_prefix(before)?.strip_suffix(after)?;
                (!instance.is_empty() && !instance.contains('.')).then_some(instance)
            }
        }
    }
}

impl Setting {
    /// Whether a section of that name could hold this setting.
    pub(crate) fn is_below(&self, section: &str) -> bool {
        let mut ours = self.name.split('.');
        let held = section
            .split('.')
            .all(|part| ours.next().is_some_and(|our| our == "*" || our == part));
        held && ours.next().is_some()
    }
}

/// A setting with its `*` filled in.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) instance: String,
    pub(crate) setting: &'static Setting,
}

impl Key {
    /// The variables that give it, ours first.
    pub(crate) fn environment(&self) -> Vec<String> {
        let old = self.setting.old.iter();
        let old = old.filter(|(instance, _)| *instance == self.instance);
        std::iter::once(environment_name(&self.name))
            .chain(old.map(|(_, name)| (*name).to_owned()))
            .collect()
    }

    /// The name that people know best, for messages.
    pub(crate) fn best_known_variable(&self) -> String {
        self.environment().pop().unwrap_or_default()
    }

    pub(crate) fn default(&self) -> Option<String> {
        match &self.setting.default {
            Preset::Unset => None,
            Preset::Text(text) => Some((*text).to_owned()),
            Preset::Of(find) | Preset::Found(find, _) => Some(find()),
            Preset::ByName(texts) => texts
                .iter()
                .find(|(name, _)| *name == self.instance)
                .or_else(|| texts.iter().find(|(name, _)| *name == "*"))
                .map(|(_, text)| (*text).to_owned()),
        }
    }
}

impl From<&'static Setting> for Key {
    fn from(setting: &'static Setting) -> Self {
        setting.of("")
    }
}

fn environment_name(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| match c {
            '.' | '-' => '_',
            c => c.to_ascii_uppercase(),
        })
        .collect();
    format!("WALFERRY_{name}")
}
