//! Every code that `check`, `status` and `quarantine ls` can print stands in the operator's
//! document, and the document names no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

type Codes = BTreeSet<String>;

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

/// What the calls of `function` have at `position`.
fn codes_of_calls(code: &str, function: &str, position: usize) -> Codes {
    let calls = code.match_indices(function);
    calls
        .filter(|(at, _)| !code[..*at].ends_with("fn "))
        .flat_map(|(at, _)| {
            let arguments = arguments(&code[at + function.len()..]);
            literals(arguments.get(position).map_or("", String::as_str))
        })
        .collect()
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

fn checks() -> Codes {
    let mut codes = Codes::new();
    let folder = root().join("cli/src/checks");
    for entry in std::fs::read_dir(folder)
        .expect("list the checks")
        .flatten()
    {
        let code = std::fs::read_to_string(entry.path()).expect("read a check");
        let before = codes.len();
        for (call, position) in [
            ("Finding::new(", 2),
            ("Finding::ok(", 1),
            (" bad(", 1),
            (" critical(", 0),
        ] {
            codes.extend(codes_of_calls(&code, call, position));
        }
        // `(Level::Ok, "permissions")`: a code that is chosen first, on one line or on several.
        let line = code.split_whitespace().collect::<Vec<_>>().join(" ");
        for start in ["=> (Level::", "=> ( Level::"] {
            for (at, level) in line.match_indices(start) {
                codes.extend(literals(&arguments(&line[at + level.len()..]).join(",")));
            }
        }
        assert!(
            codes.len() > before,
            "{} has no code",
            entry.path().display()
        );
    }
    codes
}

/// What is recorded in the catalog and told by `check` for an hour.
fn events() -> Codes {
    let mut codes = Codes::new();
    let mut folders = vec![root().join("shared"), root().join("worker/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("list").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("read");
                for (at, _) in text.match_indices("NewEvent {") {
                    let fields = arguments(&text[at + "NewEvent {".len()..]);
                    let code = fields
                        .iter()
                        .find(|field| field.trim().starts_with("code:"));
                    codes.extend(literals(code.map_or("", String::as_str)));
                }
                codes.extend(codes_of_calls(&text, ".critical(", 1));
                codes.extend(codes_of_calls(&text, " critical(conn,", 1));
                codes.extend(codes_of_calls(&text, "push(event(", 1));
            }
        }
    }
    for known in ["vanished", "other-content", "retention-incomplete"] {
        assert!(codes.contains(known), "{known}: {codes:?}");
    }
    codes
}

/// The codes in the first column of the tables of one chapter.
fn documented(chapter: &str) -> Codes {
    let text = read("docs/operations.md");
    let chapter = text
        .split("\n## ")
        .find(|part| part.starts_with(chapter))
        .unwrap_or_else(|| panic!("no chapter `{chapter}`"));
    let cells = chapter.lines().filter_map(|line| line.strip_prefix("| `"));
    cells
        .filter_map(|line| line.split(" | ").next())
        .flat_map(|cell| cell.split('`').step_by(2))
        .map(str::to_owned)
        .filter(|word| is_code(word))
        .collect()
}

#[test]
fn every_code_of_check_is_documented_and_no_other() {
    let mut printed = checks();
    printed.extend(events());
    printed.extend(codes_of_body("shared/store/src/error.rs", "cause"));
    let refusals = codes_of_body("shared/retain/src/guards.rs", "code");
    // A hold and another run are nobody's trouble: no event.
    let quiet = ["retention-held", "retention-busy"];
    printed.extend(
        refusals
            .into_iter()
            .filter(|code| !quiet.contains(&code.as_str())),
    );
    let documented = documented("What `check` says");
    let difference: Vec<_> = printed.symmetric_difference(&documented).collect();
    assert!(
        difference.is_empty(),
        "in the code or in docs/operations.md, not in both: {difference:?}"
    );
}

#[test]
fn every_cause_of_a_copy_or_file_is_documented_and_no_other() {
    let mut causes = codes_of_body("shared/archive/src/upload.rs", "cause");
    causes.extend(codes_of_body("shared/archive/src/heal.rs", "cause"));
    causes.extend(codes_of_body("shared/spool/src/suspicion.rs", "code"));
    causes.extend(codes_of_body("shared/retain/src/guards.rs", "code"));
    causes.insert("io".to_owned());
    let of_check = documented("What `check` says");
    let here = documented("Causes");
    let missing: Vec<_> = causes
        .iter()
        .filter(|cause| !of_check.contains(*cause) && !here.contains(*cause))
        .collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    let invented: Vec<_> = here.difference(&causes).collect();
    assert!(invented.is_empty(), "nowhere in the code: {invented:?}");
}
