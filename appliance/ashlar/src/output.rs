//! What a command prints: tables for people, the interface's own JSON for scripts.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{
    Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets,
};
use serde::Serialize;

use crate::client::Error;

/// Texts up to this many characters stay on one line; ids have up to 22.
const WHOLE: usize = 24;
/// The least width of a column of longer texts.
const PROSE: u16 = 24;

/// What kind of output is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Tables, for people.
    #[default]
    Table,
    /// JSON exactly as the interface answers it, for scripts.
    Json,
}

/// Where a command prints, and how.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Tables or JSON.
    pub format: Format,
    /// Ids only, no progress, no remarks.
    pub quiet: bool,
    terminal: bool,
    colour: bool,
}

impl Output {
    /// For this process's standard output; colour only on a terminal and without `NO_COLOR`.
    #[must_use]
    pub fn of_process(format: Format, quiet: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            quiet,
            terminal,
            colour: terminal && !plain,
        }
    }

    /// The same in another format.
    #[must_use]
    pub fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Whether a person is told things beside the answer.
    #[must_use]
    pub fn talks(&self) -> bool {
        self.format == Format::Table && !self.quiet
    }

    /// Prints one answer: as JSON, or as `people` makes it.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn answer<T: Serialize>(
        &self,
        answer: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        match self.format {
            Format::Json => print(&json(answer)?),
            Format::Table => print(&people(answer)),
        }
    }

    /// Prints a list: as JSON, as ids alone (`--quiet`), or as a table.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn list<T: Serialize, A: Serialize>(
        &self,
        answer: &A,
        items: &[T],
        id: impl Fn(&T) -> String,
        columns: &[Column<T>],
    ) -> Result<(), Error> {
        if self.format == Format::Json {
            return print(&json(answer)?);
        }
        if self.quiet {
            return items.iter().try_for_each(|item| print(&id(item)));
        }
        print(&self.table(items, columns))
    }

    /// Rows under a heading; no lines, as wide as the terminal at most.
    #[must_use]
    pub fn table<T>(&self, items: &[T], columns: &[Column<T>]) -> String {
        let mut table = Table::new();
        self.fill(&mut table, items, columns);
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn fill<T>(&self, table: &mut Table, items: &[T], columns: &[Column<T>]) {
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(if self.terminal {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        table.set_header(columns.iter().map(|column| {
            let cell = Cell::new(column.0);
            if self.colour {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        }));
        let mut widths: Vec<usize> = columns.iter().map(|column| column.0.len()).collect();
        for item in items {
            let texts: Vec<String> = columns.iter().map(|column| column.1(item)).collect();
            for (width, text) in widths.iter_mut().zip(&texts) {
                *width = text.chars().count().max(*width);
            }
            table.add_row(texts.into_iter().map(|text| self.cell(text)));
        }
        for (column, width) in table.column_iter_mut().zip(widths) {
            column.set_padding((0, 2));
            // An id in two parts can't be copied: only prose is broken to fit the terminal.
            column.set_constraint(if width <= WHOLE {
                ColumnConstraint::ContentWidth
            } else {
                ColumnConstraint::LowerBoundary(Width::Fixed(PROSE))
            });
        }
    }

    fn cell(&self, text: String) -> Cell {
        let colour = match text.as_str() {
            "Running" | "Available" | "chosen" => Some(Color::Green),
            "Pending" | "Starting" | "Stopping" | "Creating" => Some(Color::Yellow),
            "CreateFailed" | "rejected" | "failing" => Some(Color::Red),
            _ => None,
        };
        match colour {
            Some(colour) if self.colour => Cell::new(text).fg(colour),
            _ => Cell::new(text),
        }
    }
}

/// A column: its heading and how a row's text is made.
pub struct Column<T>(pub &'static str, pub fn(&T) -> String);

/// `name  value` lines, the names padded to one width; values that are empty are left out.
#[must_use]
pub fn facts(facts: &[(&str, String)]) -> String {
    let shown = facts.iter().filter(|(_, value)| !value.is_empty());
    let width = shown.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    shown
        .map(|(name, value)| {
            let indented = value.replace('\n', &format!("\n{:width$}  ", ""));
            format!("{name:width$}  {indented}")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// What an optional value prints as: itself or a dash.
#[must_use]
pub fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".into(), ToString::to_string)
}

/// How long ago an RFC 3339 time was, in its largest unit: `5s`, `3m`, `2h`, `9d`.
#[must_use]
pub fn age(at: &str, now: types::Timestamp) -> String {
    let Ok(at) = at.parse::<types::Timestamp>() else {
        return at.to_owned();
    };
    let seconds = now.saturating_since(at).as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// [`age`] by this machine's clock.
#[must_use]
pub fn age_now(at: &str) -> String {
    age(
        at,
        types::Timestamp::from_system_time(std::time::SystemTime::now()),
    )
}

/// MiB in the largest unit that divides them: `512 MiB`, `2 GiB`.
#[must_use]
pub fn mib(mib: u64) -> String {
    types::ByteCount::from_mib(mib).to_string()
}

/// Pretty JSON of an answer.
///
/// # Errors
/// It cannot be written as JSON; does not happen with the interface's types.
pub fn json(answer: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(answer).map_err(|source| Error::NotUnderstood {
        what: "the answer".into(),
        source: source.into(),
    })
}

/// Prints one line (or block) on standard output. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> Result<(), Error> {
    write_out(text.as_bytes()).and_then(|()| write_out(b"\n"))
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// Standard output cannot be written.
pub fn write_out(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::local("writing to standard output")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Output {
        Output {
            format: Format::Table,
            quiet: false,
            terminal: false,
            colour: false,
        }
    }

    #[test]
    fn a_table_has_no_lines_no_colour_and_no_trailing_blanks() {
        let rows = [("i-1", "Running"), ("i-22", "Stopped")];
        let columns = [
            Column::<(&str, &str)>("ID", |row| row.0.into()),
            Column("STATE", |row| row.1.into()),
        ];
        assert_eq!(
            plain().table(&rows, &columns),
            "ID    STATE\ni-1   Running\ni-22  Stopped"
        );
        assert_eq!(plain().table(&[], &columns), "ID  STATE");
    }

    #[test]
    fn a_narrow_terminal_breaks_prose_and_no_id() {
        let columns = [
            Column::<(&str, &str)>("ID", |row| row.0.into()),
            Column("REASON", |row| row.1.into()),
        ];
        let id = "dec-0123456789abcdefg";
        let reason = "the host has the best score of all that were possible";
        let output = Output {
            terminal: true,
            ..plain()
        };
        let mut narrow = Table::new();
        narrow.set_width(40);
        output.fill(&mut narrow, &[(id, reason)], &columns);
        let lines: Vec<String> = narrow.lines().collect();
        assert!(lines[1].starts_with(id), "{lines:?}");
        assert!(lines.len() > 3, "{lines:?}");
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        let columns = [Column::<&str>("STATE", |row| (*row).into())];
        assert!(!plain().table(&["Running"], &columns).contains('\u{1b}'));
    }

    #[test]
    fn facts_line_up_and_leave_out_the_empty() {
        let text = facts(&[
            ("id", "i-1".into()),
            ("name", String::new()),
            ("address", "a\nb".into()),
        ]);
        assert_eq!(text, "id       i-1\naddress  a\n         b");
    }

    #[test]
    fn ages_in_their_largest_unit() {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        for (at, text) in [
            ("2026-01-31T12:00:00.000Z", "0s"),
            ("2026-01-31T12:00:01Z", "0s"),
            ("2026-01-31T11:58:01Z", "119s"),
            ("2026-01-31T11:50:00Z", "10m"),
            ("2026-01-31T03:00:00Z", "9h"),
            ("2026-01-01T12:00:00Z", "30d"),
            ("soon", "soon"),
        ] {
            assert_eq!(age(at, now), text, "{at}");
        }
    }
}
