use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::Given;
use crate::reader::{Reader, Section as _};
use crate::sections::Everything;
use crate::setting::{Setting, settings};

fn repository_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn section(setting: &Setting) -> &'static str {
    setting.name.split('.').next().unwrap()
}

/// The tables of `docs/configuration.md`, one per section.
fn tables() -> String {
    let mut text = String::new();
    let mut last = "";
    for setting in settings() {
        if section(setting) != last {
            last = section(setting);
            let _ = write!(
                text,
                "\n### {last}\n\n| Setting | Environment | Default | Meaning |\n|---|---|---|---|\n"
            );
        }
        let mut variables = vec![setting.environment()];
        variables.extend(setting.old.iter().map(|(_, name)| (*name).to_owned()));
        let secret = if setting.is_secret() {
            " (secret: also with `_FILE` / `_file`)"
        } else {
            ""
        };
        let default = match setting.default_text() {
            text if text.is_empty() => "—".to_owned(),
            text => format!("`{text}`"),
        };
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {default} | {}{secret} |",
            setting.name,
            variables.join("`<br>`"),
            setting.about,
        );
    }
    text
}

#[test]
fn the_documentation_lists_every_setting_with_its_names_and_default() {
    let document = repository_file("docs/configuration.md");
    let (_, rest) = document
        .split_once("<!-- settings -->\n")
        .expect("the start mark");
    let (written, _) = rest
        .split_once("\n<!-- /settings -->")
        .expect("the end mark");
    let tables = tables();
    assert!(
        written.trim() == tables.trim(),
        "docs/configuration.md must hold between its marks:\n{tables}"
    );
}

#[test]
fn the_documentations_example_is_a_valid_configuration() {
    let document = repository_file("docs/configuration.md");
    let (_, rest) = document.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let given = Given::nothing();
    given.secret_file("key", "secret");
    given.secret_file("url", "postgres://walferry:pw@catalog/walferry");
    let secrets = given.directory.path().to_str().unwrap().to_owned();
    let example = example.replace("/run/secrets", &secrets);
    given.file(&example).load().unwrap().check().unwrap();
}

#[test]
fn every_setting_is_read_by_a_section_and_every_default_is_valid() {
    let config = Given::old_system().load().unwrap();
    let mut reader = Reader::new(&config);
    assert!(Everything::read(&mut reader).is_some());
    let declared: BTreeSet<&str> = settings().iter().map(|setting| setting.name).collect();
    assert_eq!(reader.asked, declared);
}

#[test]
fn no_name_and_no_variable_belongs_to_two_settings() {
    let settings = settings();
    let names: BTreeSet<&str> = settings.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), settings.len());
    let variables: Vec<String> = settings
        .iter()
        .flat_map(|setting| {
            let old = setting.old.iter().map(|(_, name)| (*name).to_owned());
            std::iter::once(setting.environment()).chain(old)
        })
        .collect();
    let unique: BTreeSet<&String> = variables.iter().collect();
    assert_eq!(unique.len(), variables.len());
}

#[test]
fn every_section_file_begins_with_the_variables_it_reads() {
    for setting in settings() {
        let file = repository_file(&format!(
            "shared/config/src/sections/{}.rs",
            section(setting)
        ));
        let head: String = file
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        let last = setting.environment();
        let last = last.rsplit_once("<NAME>_").map_or_else(
            || {
                last.strip_prefix(&format!("WALFERRY_{}_", section(setting).to_uppercase()))
                    .unwrap_or(&last)
                    .to_owned()
            },
            |(_, last)| last.to_owned(),
        );
        let old = setting.old.iter().all(|(_, name)| head.contains(name));
        let generic =
            section(setting) == "repositories" && head.contains("`WALFERRY_REPOSITORIES_<NAME>_…`");
        assert!(
            old && (generic || head.contains(&last.replace("<NAME>", "<JOB>"))),
            "{} is missing",
            setting.name
        );
    }
}

/// The names of the fields that hold a setting, and the file of each.
fn fields() -> Vec<(String, String)> {
    let sections = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sections");
    let mut fields = Vec::new();
    for entry in std::fs::read_dir(sections).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("    pub ")?.split_once(": ")?;
            (!name.contains(['(', ' '])).then(|| name.to_owned())
        });
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        fields.extend(names.map(|name| (file.clone(), name)));
    }
    fields
}

/// The text of every shipped source file outside this crate.
fn programs(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") && !path.ends_with("config") {
            programs(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_setting_is_used_by_a_program() {
    let mut text = String::new();
    for folder in ["shared", "scheduler", "worker", "cli"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        programs(&root.join(folder), &mut text);
    }
    let fields = fields();
    assert!(fields.len() > 40, "{fields:?}");
    for (file, name) in fields {
        let used = text.match_indices(&format!(".{name}")).any(|(at, found)| {
            let next = text[at + found.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '(')
        });
        assert!(used, "`{name}` of {file} is read by nobody");
    }
}
