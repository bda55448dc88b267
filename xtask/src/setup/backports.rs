//! QEMU for the lab. It must emulate XSAVE and SVM well enough for a stock kernel in a guest of the guest, which 10.0
//! does and the 7.2 of Debian 12 does not. There it comes from the backports suite, whose source is derived from the
//! machine's own Debian source and pinned so low that nothing else is ever taken from it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::command::Invocation;
use crate::{paths, progress};

const QEMU: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// What the lab was made with; a newer series would do, an older one not.
const SERIES: &str = "10.0.";
const OLDEST: (u32, u32) = (10, 0);

const SOURCE_FILE: &str = "/etc/apt/sources.list.d/ashlar-backports.sources";
const PIN_FILE: &str = "/etc/apt/preferences.d/ashlar-backports.pref";
/// Below 100, the priority of what is installed: never a candidate by itself.
const PIN_PRIORITY: u32 = 50;

/// Installs a QEMU that is new enough unless the machine has one.
pub fn ensure_qemu() -> Result<()> {
    if let Some(version) = installed() {
        if version >= OLDEST {
            return Ok(());
        }
        progress::note(format!(
            "{QEMU} {}.{} is too old for the lab",
            version.0, version.1
        ));
    }
    if !apt::is_available() {
        bail!(
            "the lab needs {QEMU} {}.{} or newer; install it, then try again",
            OLDEST.0,
            OLDEST.1
        );
    }
    let version = match wanted_version() {
        Some(version) => version,
        None => {
            add_source()?;
            apt::update()?;
            wanted_version().with_context(|| {
                format!("neither this machine's package sources nor the backports suite have {PACKAGE} {SERIES}*; install {QEMU} {}.{} or newer by hand", OLDEST.0, OLDEST.1)
            })?
        }
    };
    // Its companions (the -common and -data packages) must come from the same place.
    let suite = if version.contains("~bpo") {
        Some(suite()?)
    } else {
        None
    };
    let options: Vec<&str> = suite.iter().flat_map(|suite| ["-t", suite]).collect();
    apt::install_with(&[&format!("{PACKAGE}={version}")], &options)?;
    match installed() {
        Some(version) if version >= OLDEST => Ok(()),
        _ => bail!(
            "{PACKAGE} {version} was installed, but {QEMU} is still missing or too old: is another one earlier on PATH?"
        ),
    }
}

/// The version of a package that the backports suite has; its source is added when nobody did yet.
pub fn version_of(package: &str) -> Result<String> {
    let find = || {
        let mut versions = apt::versions(package).into_iter();
        versions.find(|version| version.contains("~bpo"))
    };
    if let Some(version) = find() {
        return Ok(version);
    }
    add_source()?;
    apt::update()?;
    find().with_context(|| format!("the backports suite has no {package}"))
}

fn installed() -> Option<(u32, u32)> {
    let program = paths::find_program(QEMU)?;
    parse_version(&Invocation::new(program).arg("--version").read().ok()?)
}

/// `QEMU emulator version 10.0.2 (Debian …)` → (10, 0).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text
        .split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)?;
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    Some((parts.next()?, parts.next()?))
}

fn wanted_version() -> Option<String> {
    apt::versions(PACKAGE).into_iter().find(|version| {
        version
            .split_once(':')
            .map_or(version.as_str(), |(_, v)| v)
            .starts_with(SERIES)
    })
}

/// The backports suite of this release.
fn suite() -> Result<String> {
    let release =
        std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |name: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
    };
    match (field("ID").as_deref(), field("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => Ok(format!("{codename}-backports")),
        _ => bail!(
            "this is no Debian release with a backports suite; install {QEMU} {}.{} or newer by hand",
            OLDEST.0,
            OLDEST.1
        ),
    }
}

fn add_source() -> Result<()> {
    let suite = suite()?;
    let codename = suite.trim_end_matches("-backports");
    let origin = machine_source(codename)?;
    progress::note(format!(
        "adding the package source {SOURCE_FILE} ({suite}, pinned below everything else)"
    ));
    let signed_by = origin
        .signed_by
        .map(|key| format!("Signed-By: {key}\n"))
        .unwrap_or_default();
    let stanza = format!(
        "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n{signed_by}",
        origin.uri
    );
    let pin = format!("Package: *\nPin: release n={suite}\nPin-Priority: {PIN_PRIORITY}\n");
    // The pin first: the source is never without it.
    write_as_root(PIN_FILE, &pin)?;
    write_as_root(SOURCE_FILE, &stanza)
}

/// Where the machine gets its Debian packages, and the key it trusts for them.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    uri: String,
    signed_by: Option<String>,
}

/// Asks apt (which reads every format of source files) for the source of `codename`.
fn machine_source(codename: &str) -> Result<Origin> {
    let ask = || {
        Invocation::new("apt-get")
            .args([
                "indextargets",
                "--format",
                "$(REPO_URI)|$(SOURCESENTRY)",
                "Identifier: Packages",
            ])
            .args([&format!("Release: {codename}"), "Component: main"])
            .read()
    };
    let mut targets = ask()?;
    if targets.trim().is_empty() {
        apt::update()?;
        targets = ask()?;
    }
    let line = targets.lines().next().with_context(|| {
        format!("this machine has no package source for {codename}; install {QEMU} {}.{} or newer by hand", OLDEST.0, OLDEST.1)
    })?;
    let (uri, entry) = line.split_once('|').unwrap_or((line, ""));
    let file = PathBuf::from(entry.rsplit_once(':').map_or(entry, |(file, _)| file));
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Origin {
        uri: uri.to_owned(),
        signed_by: signed_by(&text, uri),
    })
}

/// The key that a source file (deb822 or one-line) names for a URI; deb822 may hold the key itself on further lines.
fn signed_by(text: &str, uri: &str) -> Option<String> {
    let uri = uri.trim_end_matches('/');
    let names_uri = |line: &str| {
        line.split_whitespace()
            .any(|word| word.trim_end_matches('/') == uri)
    };
    if let Some(line) = text
        .lines()
        .find(|line| line.trim_start().starts_with("deb ") && names_uri(line))
    {
        let options = line.split_once('[')?.1.split_once(']')?.0;
        return options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
    }
    let stanza = text
        .split("\n\n")
        .find(|stanza| stanza.lines().any(names_uri))?;
    let mut lines = stanza
        .lines()
        .skip_while(|line| !line.to_ascii_lowercase().starts_with("signed-by:"));
    let (_, first) = lines.next()?.split_once(':')?;
    let rest: String = lines
        .take_while(|line| line.starts_with([' ', '\t']))
        .map(|line| format!("\n{line}"))
        .collect();
    Some(format!("{}{rest}", first.trim()))
}

fn write_as_root(path: &str, text: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Invocation::as_root("install")
        .args(["-m", "0644"])
        .arg(file.path())
        .arg(path)
        .read()
        .with_context(|| format!("cannot write {path}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_qemu_says() {
        assert_eq!(
            parse_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)"),
            Some((10, 0))
        );
        assert_eq!(parse_version("QEMU emulator version 7.2.17"), Some((7, 2)));
        assert_eq!(parse_version("nonsense"), None);
    }

    #[test]
    fn keys_are_found_in_both_formats() {
        let uri = "http://mirror.example/debian/";
        for (text, key) in [
            ("deb http://mirror.example/debian stable main", None),
            (
                "# comment\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian stable main",
                Some("/k.gpg"),
            ),
            (
                "Types: deb\nURIs: http://other.example/debian\nSigned-By: /o.gpg\n\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: stable\nSigned-By: /k.gpg",
                Some("/k.gpg"),
            ),
            (
                "Types: deb\nURIs: http://mirror.example/debian\nSigned-By:\n -----BEGIN-----\n .\n abc\nSuites: stable",
                Some("\n -----BEGIN-----\n .\n abc"),
            ),
            (
                "Types: deb\nURIs: http://mirror.example/debian\nSuites: stable",
                None,
            ),
        ] {
            assert_eq!(signed_by(text, uri).as_deref(), key, "{text}");
        }
    }
}
