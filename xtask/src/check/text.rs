//! What no tracked file may contain: paths of the machine it was written on, and hosts of package registries. What runs
//! on any machine finds both by asking that machine.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use crate::command::Invocation;
use crate::paths;

/// Written in two halves, so that this file doesn't contain what it forbids.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("deb.debian", ".org"),
    concat!("security.debian", ".org"),
    concat!("snapshot.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
    concat!("static.crates", ".io"),
    concat!("index.crates", ".io"),
    concat!("registry.npmjs", ".org"),
    concat!("files.pythonhosted", ".org"),
    concat!("proxy.golang", ".org"),
];
/// Folders that every machine has; a path below them says nothing about this one.
const COMMON_FOLDERS: &[&str] = &[
    "bin", "dev", "etc", "lib", "mnt", "opt", "proc", "run", "srv", "sys", "tmp", "usr", "var",
];
/// Written by cargo, which names its registry there.
const GENERATED: &str = "Cargo.lock";

/// One line for each line that contains something forbidden.
pub fn violations() -> Result<Vec<String>> {
    let root = paths::root();
    let listed = Invocation::new("git")
        .args(["ls-files", "-z"])
        .dir(&root)
        .read()?;
    let forbidden = forbidden(
        &root,
        std::env::var_os("HOME").map(PathBuf::from).as_deref(),
    );
    let mut found = Vec::new();
    for name in listed
        .split('\0')
        .filter(|name| !name.is_empty() && !name.ends_with(GENERATED))
    {
        // What isn't text or was just deleted has no lines.
        let Ok(text) = std::fs::read_to_string(root.join(name)) else {
            continue;
        };
        found.extend(
            lines_with(&text, &forbidden)
                .map(|(line, what)| format!("{name}:{line} contains {what}")),
        );
    }
    Ok(found)
}

/// Hosts, and the folders at the top of this machine below which the checkout and the user's home are.
fn forbidden(checkout: &Path, home: Option<&Path>) -> Vec<String> {
    let mut all: Vec<String> = REGISTRY_HOSTS
        .iter()
        .map(|host| (*host).to_owned())
        .collect();
    for path in [Some(checkout), home].into_iter().flatten() {
        let mut folders = path.components().filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        match (folders.next(), folders.next()) {
            (Some("home"), Some(user)) => all.push(format!("/home/{user}/")),
            (Some(top), _) if !COMMON_FOLDERS.contains(&top) => all.push(format!("/{top}/")),
            _ => {}
        }
    }
    all.dedup();
    all
}

fn lines_with<'a>(
    text: &'a str,
    forbidden: &'a [String],
) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines().enumerate().flat_map(move |(index, line)| {
        forbidden
            .iter()
            .filter(move |what| contains(line, what))
            .map(move |what| (index + 1, what.as_str()))
    })
}

/// Whether a line contains it as a path or host of its own, not as a part of a longer one (`../x/`, `/a/x/`).
fn contains(line: &str, what: &str) -> bool {
    line.match_indices(what).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !what.starts_with('/')
            || before.is_none_or(|c| !(c.is_alphanumeric() || "._-/*}>".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_folders_are_forbidden_and_common_ones_not() {
        let paths = |checkout: &str, home: &str| {
            forbidden(Path::new(checkout), Some(Path::new(home)))[REGISTRY_HOSTS.len()..].to_vec()
        };
        assert_eq!(
            paths("/builds/a/b", "/home/ann"),
            ["/builds/", "/home/ann/"]
        );
        assert_eq!(paths("/tmp/x", "/"), Vec::<String>::new());
    }

    #[test]
    fn only_whole_paths_count() {
        let forbidden = ["/builds/".to_owned(), "static.example.org".to_owned()];
        let found = |line| lines_with(line, &forbidden).count();
        assert_eq!(found("see /builds/x"), 1);
        assert_eq!(found("\"/builds/x\""), 1);
        assert_eq!(found("a/builds/x and ../builds/y"), 0);
        assert_eq!(found("https://static.example.org/x"), 1);
    }

    #[test]
    fn no_tracked_file_contains_any() {
        assert_eq!(violations().unwrap(), Vec::<String>::new());
    }
}
