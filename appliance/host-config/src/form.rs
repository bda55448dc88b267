//! The form of a configuration, as [`CONFIG`] describes it. Checked before anything is read into values, so that
//! all that is wrong is told at once, with what would be right.

use toml::de::{DeArray, DeTable, DeValue};

use crate::{Problem, keys::CONFIG};

/// The most problems that are told at once.
const MAX_PROBLEMS: usize = 50;
/// How alike a key and a known one are for it to be taken for a slip of the hand (Jaro and Winkler, 0–1).
const ALIKE: f64 = 0.8;

/// What a value may be.
pub(crate) enum Form {
    /// A string that fits.
    Text(&'static Text),
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A whole number from one to another.
    Number(i64, i64),
    /// True or false.
    Switch,
    /// At most so many of these.
    List(&'static Form, usize),
    /// A table with these keys.
    Table(&'static [Entry]),
    /// A table of at most so many texts under names that fit.
    Map(&'static Text, &'static Text, usize),
}

/// A kind of string.
pub(crate) struct Text {
    /// What it is, for people: `host name (1 to 63 letters, digits and dashes)`.
    pub(crate) what: &'static str,
    /// One that fits.
    pub(crate) example: &'static str,
    /// Whether a string is one.
    pub(crate) fits: fn(&str) -> bool,
}

/// A key of a table.
pub(crate) struct Entry {
    pub(crate) key: &'static str,
    pub(crate) form: Form,
    pub(crate) required: bool,
}

/// All that is wrong with the form of a configuration, in the order of the text.
pub(crate) fn check(text: &str, tree: &DeTable<'_>) -> Vec<Problem> {
    let mut walk = Walk {
        text,
        problems: Vec::new(),
    };
    walk.table("", 0, tree, CONFIG);
    let mut problems = walk.problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.truncate(MAX_PROBLEMS);
    problems
}

struct Walk<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn problem(&mut self, at: usize, key: &str, message: String) {
        self.problems.push(Problem::at(self.text, at, key, message));
    }

    fn table(&mut self, path: &str, at: usize, table: &DeTable<'_>, entries: &'static [Entry]) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let inner = join(path, name);
            match entries.iter().find(|entry| entry.key == name) {
                Some(entry) => {
                    self.value(&inner, value.span().start, value.get_ref(), &entry.form);
                }
                None => {
                    let known: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
                    let hint = match alike(name, &known) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("known here are {}", known.join(", ")),
                    };
                    self.problem(
                        key.span().start,
                        &inner,
                        format!("unknown field `{}`: {hint}", shortened(name)),
                    );
                }
            }
        }
        for entry in entries {
            if entry.required && !table.contains_key(entry.key) {
                self.problem(
                    at,
                    &join(path, entry.key),
                    format!(
                        "`{}` is missing: expected {}",
                        entry.key,
                        expected(&entry.form)
                    ),
                );
            }
        }
    }

    fn value(&mut self, path: &str, at: usize, value: &DeValue<'_>, form: &'static Form) {
        match (form, value) {
            (Form::Text(text), DeValue::String(found)) => self.text(path, at, found, text),
            (Form::Choice(known), DeValue::String(found)) => {
                if !known.contains(&&**found) {
                    let hint = alike(found, known).map_or(String::new(), |meant| {
                        format!("; did you mean \"{meant}\"?")
                    });
                    self.problem(
                        at,
                        path,
                        format!(
                            "`{}` is not possible: expected {}{hint}",
                            shortened(found),
                            expected(form)
                        ),
                    );
                }
            }
            (Form::Number(least, most), DeValue::Integer(found)) => {
                let number = i64::from_str_radix(found.as_str(), found.radix()).ok();
                if !number.is_some_and(|number| (*least..=*most).contains(&number)) {
                    self.problem(
                        at,
                        path,
                        format!("{found} is not possible: from {least} to {most}"),
                    );
                }
            }
            (Form::Switch, DeValue::Boolean(_)) => {}
            (Form::List(form, most), DeValue::Array(found)) => {
                self.list(path, at, found, form, *most);
            }
            (Form::Table(entries), DeValue::Table(found)) => self.table(path, at, found, entries),
            (Form::Map(name, text, most), DeValue::Table(found)) => {
                self.count(path, at, found.len(), *most);
                for (key, value) in found.iter().take(*most) {
                    let inner = join(path, key.get_ref());
                    self.text(&inner, key.span().start, key.get_ref(), name);
                    match value.get_ref() {
                        DeValue::String(found) => {
                            self.text(&inner, value.span().start, found, text);
                        }
                        other => self.kind(&inner, value.span().start, other, &in_words(text)),
                    }
                }
            }
            (form, other) => self.kind(path, at, other, &expected(form)),
        }
    }

    fn list(
        &mut self,
        path: &str,
        at: usize,
        found: &DeArray<'_>,
        form: &'static Form,
        most: usize,
    ) {
        self.count(path, at, found.len(), most);
        for (index, value) in found.iter().enumerate().take(most) {
            let inner = format!("{path}[{index}]");
            self.value(&inner, value.span().start, value.get_ref(), form);
        }
    }

    fn count(&mut self, path: &str, at: usize, count: usize, most: usize) {
        if count > most {
            self.problem(
                at,
                path,
                format!("there are {count}, and at most {most} are possible"),
            );
        }
    }

    fn text(&mut self, path: &str, at: usize, found: &str, text: &Text) {
        if !(text.fits)(found) {
            self.problem(
                at,
                path,
                format!(
                    "`{}` is no {}, such as \"{}\"",
                    shortened(found),
                    text.what,
                    text.example
                ),
            );
        }
    }

    fn kind(&mut self, path: &str, at: usize, found: &DeValue<'_>, expected: &str) {
        self.problem(
            at,
            path,
            format!(
                "expected {expected}, and this is of type {}",
                found.type_str()
            ),
        );
    }
}

fn expected(form: &Form) -> String {
    match form {
        Form::Text(text) => in_words(text),
        Form::Choice(known) => format!("one of \"{}\"", known.join("\", \"")),
        Form::Number(least, most) => format!("a whole number from {least} to {most}"),
        Form::Switch => "true or false".to_owned(),
        Form::List(Form::Table(_), _) => "a table under a heading in [[ ]]".to_owned(),
        Form::List(form, _) => format!("a list in [ ], each {}", expected(form)),
        Form::Table(entries) => {
            let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
            format!("a table with {}", keys.join(", "))
        }
        Form::Map(name, text, _) => format!(
            "a table such as {{ \"{}\" = \"{}\" }}",
            name.example, text.example
        ),
    }
}

fn in_words(text: &Text) -> String {
    format!("a string, {}, such as \"{}\"", text.what, text.example)
}

fn join(path: &str, key: &str) -> String {
    let key = shortened(key);
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// What is known and so much like it that it was meant.
fn alike<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let found = shortened(found);
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&found, known), *known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

/// A text from outside within a message: short, and without what moves a cursor.
fn shortened(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(64)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().nth(64).is_some() {
        short.push('…');
    }
    short
}
