//! Every code that `check`, `status` and `quarantine ls` can print, and each level that it can
//! have, stands in the operator's document, which names no other and says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Codes = BTreeSet<String>;
/// Codes, each with its levels.
type States = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository")
        .to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_code(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

/// The string literals of a piece of Rust that look like codes.
fn literals(code: &str) -> Codes {
    let quoted = code.split('"').skip(1).step_by(2);
    quoted
        .filter(|word| is_code(word))
        .map(str::to_owned)
        .collect()
}

/// The arguments of a call, from behind its bracket on.
fn arguments(code: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut arguments = vec![String::new()];
    for c in code.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            match c {
                '"' => quoted = true,
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    arguments.push(String::new());
                    continue;
                }
                _ => {}
            }
        }
        arguments.last_mut().expect("there is one").push(c);
    }
    arguments
}

/// The arguments of each call of `function`.
fn calls(code: &str, function: &str) -> Vec<Vec<String>> {
    let found = code.match_indices(function);
    found
        .filter(|(at, _)| !code[..*at].ends_with("fn "))
        .map(|(at, _)| arguments(&code[at + function.len()..]))
        .collect()
}

/// What the calls of `function` have at `position`.
fn codes_of_calls(code: &str, function: &str, position: usize) -> Codes {
    calls(code, function)
        .iter()
        .flat_map(|arguments| literals(arguments.get(position).map_or("", String::as_str)))
        .collect()
}

/// The levels that a piece of Rust names, as they are printed.
fn levels(code: &str) -> BTreeSet<String> {
    let named = ["Level::", "Severity::"].map(|kind| code.split(kind).skip(1));
    named
        .into_iter()
        .flatten()
        .map(|rest| rest.chars().take_while(char::is_ascii_alphabetic))
        .map(|word| word.collect::<String>().to_uppercase())
        .collect()
}

fn add(states: &mut States, codes: Codes, levels: &BTreeSet<String>) {
    for code in codes {
        assert!(!levels.is_empty(), "{code} has no level");
        states.entry(code).or_default().extend(levels.clone());
    }
}

fn of(level: &str) -> BTreeSet<String> {
    BTreeSet::from([level.to_owned()])
}

/// Every source file below `folders` without its tests.
fn sources(folders: &[&str]) -> Vec<String> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("list").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("read");
                found.push(
                    text.split("#[cfg(test)]\nmod ")
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
        }
    }
    found
}

/// The codes that the body of a function `name` names.
fn codes_of_body(path: &str, name: &str) -> Codes {
    let text = read(path);
    let begin = text
        .find(&format!("fn {name}(&self)"))
        .unwrap_or_else(|| panic!("{path} has no `{name}`"));
    let body = &text[begin..];
    let found = literals(&body[..body.find("\n    }\n").unwrap_or(body.len())]);
    assert!(found.len() > 2, "{path}: {found:?}");
    found
}

fn checks() -> States {
    let mut states = States::new();
    let causes = codes_of_body("shared/store/src/error.rs", "cause");
    for code in sources(&["cli/src/checks"]) {
        let before = states.clone();
        for arguments in calls(&code, "Finding::ok(") {
            add(&mut states, literals(&arguments[1]), &of("OK"));
        }
        for arguments in calls(&code, " critical(") {
            add(&mut states, literals(&arguments[0]), &of("CRITICAL"));
        }
        let bad = calls(&code, "bad(");
        for arguments in &bad {
            add(&mut states, literals(&arguments[1]), &levels(&arguments[0]));
        }
        for arguments in calls(&code, "Finding::new(") {
            let mut named = levels(&arguments[0]);
            if named.is_empty() {
                // In the body of `bad`: its callers say the level.
                named = bad.iter().flat_map(|call| levels(&call[0])).collect();
            }
            let mut codes = literals(&arguments[2]);
            if arguments[2].contains(".cause()") {
                codes.extend(causes.clone());
            }
            add(&mut states, codes, &named);
        }
        // `(Level::Ok, "permissions")`: a code that is chosen first, on one line or on several.
        let line = code.split_whitespace().collect::<Vec<_>>().join(" ");
        for start in ["=> (", "=> ( "] {
            for arguments in calls(&line, start) {
                if arguments[0].starts_with("Level::") {
                    add(&mut states, literals(&arguments[1]), &levels(&arguments[0]));
                }
            }
        }
        assert!(states != before || code.contains("mod "), "no code: {code}");
    }
    states
}

/// What is recorded in the catalog and told by `check` for an hour.
fn events() -> States {
    let mut states = States::new();
    let refusals = codes_of_body("shared/retain/src/guards.rs", "code");
    // A hold and another run are nobody's trouble: no event.
    let quiet = ["retention-held", "retention-busy"];
    let refusals = refusals
        .into_iter()
        .filter(|code| !quiet.contains(&&**code));
    let refusals: Codes = refusals.collect();
    for text in sources(&["shared", "worker/src"]) {
        for fields in calls(&text, "NewEvent {") {
            let field = |name: &str| {
                let field = fields.iter().find(|field| field.trim().starts_with(name));
                field.map_or("", String::as_str)
            };
            add(
                &mut states,
                literals(field("code:")),
                &levels(field("severity:")),
            );
        }
        for call in [".critical(", " critical(conn,"] {
            for arguments in calls(&text, call) {
                let code = arguments.get(1).map_or("", String::as_str);
                add(&mut states, literals(code), &of("CRITICAL"));
            }
        }
        for arguments in calls(&text, "push(event(") {
            let mut codes = literals(&arguments[1]);
            if arguments[1].contains("refusal.code()") {
                codes.extend(refusals.clone());
            }
            add(&mut states, codes, &levels(&arguments[0]));
        }
    }
    for known in [
        "vanished",
        "other-content",
        "retention-incomplete",
        "retention-share",
    ] {
        assert!(states.contains_key(known), "{known}: {states:?}");
    }
    states
}

/// What is called a cause, or the reason why a file is suspicious.
fn causes() -> Codes {
    let mut causes = Codes::new();
    for text in sources(&["shared", "worker/src"]) {
        for name in ["cause", "code"] {
            let start = format!("fn {name}(&self) -> &'static str {{");
            for (at, _) in text.match_indices(&start) {
                let body = &text[at..];
                causes.extend(literals(
                    &body[..body.find("\n    }\n").unwrap_or(body.len())],
                ));
            }
        }
        for (at, start) in text.match_indices(" cause: \"") {
            causes.extend(literals(text[at..].split(',').next().unwrap_or(start)));
        }
        // What a row without a cause reads.
        for (at, _) in text.match_indices("cause, '") {
            let word = text[at..].split('\'').nth(1).unwrap_or_default();
            assert!(is_code(word), "a cause is a code: {word}");
            causes.insert(word.to_owned());
        }
        for function in text.split(" fn ").filter(|it| it.contains("NewSuspect {")) {
            causes.extend(literals(function));
        }
        causes.extend(codes_of_calls(&text, "completion::quarantine_local(", 3));
    }
    for known in [
        "mismatch",
        "copy-missing",
        "source",
        "io",
        "short",
        "since-mended",
    ] {
        assert!(causes.contains(known), "{known}: {causes:?}");
    }
    causes
}

/// The cells of the rows of one chapter's tables that begin with a code.
fn rows(chapter: &str) -> Vec<Vec<String>> {
    let text = read("docs/operations.md");
    let chapter = text
        .split("\n## ")
        .find(|part| part.starts_with(chapter))
        .unwrap_or_else(|| panic!("no chapter `{chapter}`"));
    let rows = chapter.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// The codes in a cell.
fn codes_of_cell(cell: &str) -> Codes {
    let words = cell.split('`').skip(1).step_by(2);
    words
        .filter(|word| is_code(word))
        .map(str::to_owned)
        .collect()
}

/// A row says what to do in words of its own: at three in the morning, "see the HINT" is none.
fn assert_says_what_to_do(row: &[String], columns: usize) {
    assert_eq!(row.len(), columns, "a cell is missing or too many: {row:?}");
    for cell in row {
        assert!(cell.len() > 1, "an empty cell: {row:?}");
    }
    let to_do = row.last().map_or("", String::as_str).to_lowercase();
    let elsewhere = ["as the hint says", "as its hint says", "read the error"];
    assert!(!elsewhere.contains(&&*to_do), "{row:?}");
}

#[test]
fn every_state_of_check_is_documented_and_no_other() {
    let mut printed = checks();
    for (code, levels) in events() {
        printed.entry(code).or_default().extend(levels);
    }
    let mut documented = States::new();
    for row in rows("What `check` says") {
        assert_says_what_to_do(&row, 4);
        assert!(row[1] == "OK" || row[3] != "nothing", "{row:?}");
        add(&mut documented, codes_of_cell(&row[0]), &of(&row[1]));
    }
    let pairs = |states: States| -> BTreeSet<(String, String)> {
        let pairs = states.into_iter();
        let each = |(code, levels): (String, BTreeSet<String>)| {
            levels.into_iter().map(move |level| (code.clone(), level))
        };
        pairs.flat_map(each).collect()
    };
    let (printed, documented) = (pairs(printed), pairs(documented));
    let undocumented: Vec<_> = printed.difference(&documented).collect();
    assert!(
        undocumented.is_empty(),
        "not in docs/operations.md: {undocumented:?}"
    );
    let invented: Vec<_> = documented.difference(&printed).collect();
    assert!(invented.is_empty(), "nowhere in the code: {invented:?}");
}

#[test]
fn every_cause_of_a_copy_or_file_is_documented_and_no_other() {
    let causes = causes();
    let codes_of = |chapter| -> Codes {
        let rows = rows(chapter);
        rows.iter().flat_map(|row| codes_of_cell(&row[0])).collect()
    };
    for row in rows("Causes") {
        assert_says_what_to_do(&row, 3);
    }
    let of_check = codes_of("What `check` says");
    let here = codes_of("Causes");
    let missing: Vec<_> = causes
        .iter()
        .filter(|cause| !of_check.contains(*cause) && !here.contains(*cause))
        .collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    let invented: Vec<_> = here.difference(&causes).collect();
    assert!(invented.is_empty(), "nowhere in the code: {invented:?}");
}

/// At three in the morning nobody wants to find out that there is no such flag.
#[test]
fn every_command_that_the_document_tells_to_type_is_one() {
    let text = read("docs/operations.md");
    let quoted = text.split('`').skip(1).step_by(2);
    let commands: BTreeSet<&str> = quoted
        .filter_map(|word| word.strip_prefix("walferry "))
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let subcommands = words.iter().take_while(|word| is_code(word));
        let help = std::process::Command::new(walferry_tests::binaries::built("walferry"))
            .args(subcommands)
            .arg("--help")
            .output()
            .expect("start walferry");
        let told = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success(), "walferry {command}: {help:?}");
        let known: Vec<&str> = told.split([' ', ',', '\n']).collect();
        for flag in words.iter().filter(|word| word.starts_with('-')) {
            assert!(
                known.contains(flag),
                "walferry {command}: no {flag}: {told}"
            );
        }
        // The name of a group of commands alone is no command.
        let usage = told.lines().find(|line| line.starts_with("Usage: "));
        let usage = usage.unwrap_or_else(|| panic!("walferry {command}: {told}"));
        assert!(!usage.ends_with("<COMMAND>"), "walferry {command}: {usage}");
    }
}
