//! Query plans: no statement of a crate reads a whole table that grows.
//!
//! [`check`] finds the statements in a crate's sources (every string that begins as one), has SQLite explain each on the crate's
//! own tables, and says which of them read a table from one end to the other, sort what they have read, or build an index for the
//! occasion. A new statement is judged without being listed anywhere. What is read with a bound by its nature is allowed by
//! name, with the reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::MemoryDisk;
use crate::journal::views::Views;

/// How a statement begins.
const VERBS: [&str; 6] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "REPLACE ", "WITH "];
/// What a test's part of a source file begins with.
const TESTS: &str = "#[cfg(test)]\nmod ";

/// A statement, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// File and line.
    pub place: String,
    /// Its text.
    pub sql: String,
}

/// What a crate's statements are checked with.
#[derive(Clone, Debug, Default)]
pub struct Rules<'a> {
    /// Macros that begin a statement whose rest is their argument: (name, beginning).
    pub macros: &'a [(&'a str, &'a str)],
    /// Files that put statements together from parts; theirs are in `more`.
    pub put_together: &'a [&'a str],
    /// Statements that stand in no single string.
    pub more: &'a [&'a str],
    /// Tables that do not grow with use: as many rows as there are kinds, or subscriptions.
    pub small: &'a [&'a str],
    /// Statements that may read more than they give, each by a part of its text and with the reason.
    pub allowed: &'a [(&'a str, &'a str)],
}

/// Checks every statement in the sources under `sources`, against the tables of a journal with `views`.
///
/// # Panics
/// With all statements that are wrong, or that read a table that grows from one end to the other; and when an exception is not
/// needed.
#[track_caller]
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn check(sources: &Path, views: impl Into<Views>, rules: &Rules<'_>) -> usize {
    let disk = MemoryDisk::new(views).expect("the tables can be created");
    let mut statements = statements_in(sources, rules);
    let more = |sql: &&str| Statement { place: "put together".to_owned(), sql: (*sql).to_owned() };
    statements.extend(rules.more.iter().map(more));
    let mut faults: Vec<String> = Vec::new();
    let mut used = vec![false; rules.allowed.len()];
    for Statement { place, sql } in &statements {
        let found: Vec<String> = match disk.plan(sql) {
            Ok(plan) => plan.into_iter().filter(|step| !is_bounded(step, rules.small)).collect(),
            Err(error) => vec![error.to_string()],
        };
        let allowed = rules.allowed.iter().position(|(part, _)| sql.contains(part));
        match allowed {
            Some(number) if !found.is_empty() => used[number] = true,
            _ => faults.extend(found.iter().map(|step| format!("{place}: {step}: {sql}"))),
        }
    }
    let not_needed = rules.allowed.iter().zip(used).filter(|(_, is_used)| !is_used);
    faults.extend(not_needed.map(|((part, _), _)| format!("no statement needs the exception {part:?}")));
    if !faults.is_empty() {
        panic!("statements that read more than they give:\n- {}", faults.join("\n- "));
    }
    statements.len()
}

/// True where a step of a plan does not grow with a table.
fn is_bounded(step: &str, small: &[&str]) -> bool {
    if step.contains("AUTOMATIC") || step.starts_with("USE TEMP B-TREE") {
        return false;
    }
    let Some(scanned) = step.strip_prefix("SCAN ") else { return true };
    let name = scanned.split(' ').next().unwrap_or_default();
    // Values in the statement, a subquery that has steps of its own, a parameter's array.
    scanned == "CONSTANT ROW"
        || scanned.ends_with("VALUES CLAUSE")
        || name.starts_with('(')
        || name == "json_each"
        || small.contains(&name)
}

/// The statements in all Rust files under `sources`, without the tests in them.
///
/// # Panics
/// When the sources cannot be read.
#[must_use]
pub fn statements_in(sources: &Path, rules: &Rules<'_>) -> Vec<Statement> {
    let mut statements = Vec::new();
    for file in rust_files(sources) {
        let shown = file.strip_prefix(sources).unwrap_or(&file).to_string_lossy().into_owned();
        if rules.put_together.contains(&shown.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file can be read");
        let code = text.find(TESTS).map_or(&text[..], |tests| &text[..tests]);
        for Literal { line, before, content } in literals(code) {
            let begun = rules.macros.iter().find(|(name, _)| before.ends_with(&format!("{name}!(")));
            let sql = begun.map_or_else(|| content.clone(), |(_, beginning)| format!("{beginning}{content}"));
            let sql = sql.trim().to_owned();
            // The macro itself.
            if rules.macros.iter().any(|(_, beginning)| beginning.starts_with(&content)) {
                continue;
            }
            // With a semicolon it is a script, which makes tables.
            if VERBS.iter().any(|verb| sql.starts_with(verb)) && !sql.contains(';') {
                statements.push(Statement { place: format!("{shown}:{line}"), sql });
            }
        }
    }
    statements
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a folder of sources can be read") {
        let path = entry.expect("a folder of sources can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

struct Literal {
    line: usize,
    /// What stands before it, without white space.
    before: String,
    content: String,
}

/// The string literals of Rust code, with `\` at the end of a line taken out. Comments and characters are passed over.
fn literals(code: &str) -> Vec<Literal> {
    let mut found = Vec::new();
    let characters: Vec<char> = code.chars().collect();
    let (mut at, mut line, mut before) = (0, 1, String::new());
    while at < characters.len() {
        match (characters[at], characters.get(at + 1)) {
            ('/', Some('/')) => {
                while characters.get(at).is_some_and(|character| *character != '\n') {
                    at += 1;
                }
                continue;
            }
            // A character, not a lifetime.
            ('\'', Some('\\')) => at += 3,
            ('\'', Some(_)) if characters.get(at + 2) == Some(&'\'') => at += 2,
            ('"', _) => {
                let began = line;
                let mut content = String::new();
                at += 1;
                while let Some(character) = characters.get(at) {
                    match character {
                        '"' => break,
                        '\\' if characters.get(at + 1) == Some(&'\n') => {
                            line += 1;
                            at += 2;
                            while characters.get(at).is_some_and(|character| character.is_whitespace()) {
                                line += usize::from(characters[at] == '\n');
                                at += 1;
                            }
                            continue;
                        }
                        '\\' => {
                            at += 1;
                            content.extend(characters.get(at).map(|escaped| match escaped {
                                'n' => '\n',
                                't' => '\t',
                                other => *other,
                            }));
                        }
                        '\n' => {
                            line += 1;
                            content.push('\n');
                        }
                        other => content.push(*other),
                    }
                    at += 1;
                }
                found.push(Literal { line: began, before: std::mem::take(&mut before), content });
            }
            (character, _) => {
                line += usize::from(character == '\n');
                if !character.is_whitespace() {
                    before.push(character);
                }
            }
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str =
        "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, who TEXT NOT NULL, at INTEGER NOT NULL);
                          CREATE INDEX IF NOT EXISTS orders_by_who ON orders (who, at);";

    fn faults(source: &str, rules: &Rules<'_>) -> String {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("lib.rs"), source).unwrap();
        let checked = std::panic::catch_unwind(|| check(directory.path(), TABLES, rules));
        checked.err().map(|panic| *panic.downcast::<String>().unwrap()).unwrap_or_default()
    }

    #[test]
    fn what_reads_a_whole_table_is_found_and_what_finds_its_rows_is_not() {
        let rules = Rules::default();
        let right = r#"const A: &str = "SELECT id FROM orders \
                       WHERE who = ?1 ORDER BY at LIMIT ?2"; // "SELECT id FROM orders"
                       fn a() { ('"', "no statement", "SELECT 1") }"#;
        assert_eq!(faults(right, &rules), "");
        for wrong in [
            "SELECT id FROM orders WHERE (?1 IS NULL OR who = ?1)",
            "SELECT count(*) FROM orders",
            "SELECT who, at FROM orders ORDER BY who LIMIT 10",
            "SELECT id FROM orders WHERE who = ?1 ORDER BY id",
            "UPDATE orders SET at = 0",
            "DELETE FROM orders WHERE at < ?1",
            "SELECT id FROM nowhere",
        ] {
            let found = faults(&format!("\n\nconst A: &str = \"{wrong}\";"), &rules);
            assert!(found.contains("lib.rs:3: ") && found.contains(wrong), "{wrong}: {found}");
        }
    }

    #[test]
    fn macros_begin_statements_and_exceptions_are_needed() {
        let rules = Rules { macros: &[("all", "SELECT id FROM ")], ..Rules::default() };
        assert!(faults(r#"fn a() { all!("orders") }"#, &rules).contains("SELECT id FROM orders"));
        let rules = Rules { allowed: &[("count(*)", "it is asked once")], ..Rules::default() };
        assert_eq!(faults(r#"const A: &str = "SELECT count(*) FROM orders";"#, &rules), "");
        assert!(faults("", &rules).contains("no statement needs"));
        let rules = Rules { small: &["orders"], ..Rules::default() };
        assert_eq!(faults(r#"const A: &str = "SELECT count(*) FROM orders";"#, &rules), "");
    }

    #[test]
    fn what_is_put_together_is_judged_where_it_is_given() {
        let rules = Rules { put_together: &["lib.rs"], more: &["SELECT at FROM orders"], ..Rules::default() };
        assert!(faults(r#"const A: &str = "SELECT id, ";"#, &rules).contains("put together: SCAN orders"));
    }
}
