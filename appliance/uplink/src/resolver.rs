//! The list of name servers, as resolv.conf(5) has it.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use crate::Error;

/// What the C library reads at most (resolv.conf(5)).
const SERVERS: usize = 3;
const DOMAINS: usize = 6;

/// The file's text. Servers and domains beyond what is read are left out, and so are repetitions.
#[must_use]
pub fn render(servers: &[IpAddr], search: &[String]) -> String {
    let mut text = "# Written by ashlar from its configuration and DHCP leases.\n".to_owned();
    let mut domains: Vec<&str> = Vec::new();
    for domain in search {
        if !domains.contains(&domain.as_str()) && domains.len() < DOMAINS {
            domains.push(domain);
        }
    }
    if !domains.is_empty() {
        text += &format!("search {}\n", domains.join(" "));
    }
    let mut used: Vec<IpAddr> = Vec::new();
    for server in servers {
        if !used.contains(server) && used.len() < SERVERS {
            used.push(*server);
            text += &format!("nameserver {server}\n");
        }
    }
    text
}

/// Replaces the file if its text is another; readers see the old or the new one whole.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    if fs::read_to_string(path).is_ok_and(|is| is == text) {
        return Ok(());
    }
    let replace = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let part = path.with_extension("part");
        fs::File::create(&part)?.write_all(text.as_bytes())?;
        fs::rename(&part, path)
    };
    replace().map_err(|source| Error::Resolver {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_the_c_library() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let servers = [
            ip("9.9.9.9"),
            ip("10.0.0.1"),
            ip("9.9.9.9"),
            ip("2001:db8::1"),
            ip("1.1.1.1"),
        ];
        let domains = ["b.example", "a.example", "b.example"].map(str::to_owned);
        let text = render(&servers, &domains);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "search b.example a.example",
                "nameserver 9.9.9.9",
                "nameserver 10.0.0.1",
                "nameserver 2001:db8::1"
            ]
        );
        assert_eq!(render(&[], &[]).lines().count(), 1);
    }

    #[test]
    fn the_file_is_made_with_its_folder_and_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/resolv.conf");
        for text in ["one\n", "two\n", "two\n"] {
            write(&path, text).expect("write");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
    }
}
