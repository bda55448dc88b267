//! `ashlar completion` and `ashlar man`.

use std::path::Path;

use clap::CommandFactory as _;

use crate::{cli::Cli, client::Error, output::write_out};

/// Prints a completion script.
pub fn completion(shell: clap_complete::Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ashlar", &mut script);
    write_out(&script)
}

/// Prints the manual page, or writes one per command to `folder`.
pub fn man(folder: Option<&Path>) -> Result<(), Error> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(Error::local("writing the manual page"))?;
        return write_out(&page);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(Error::local(format!(
            "writing the manual pages to {}",
            folder.display()
        )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn completion_scripts_know_the_commands() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "ashlar", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["security-groups", "deployment-sets", "console", "authorize"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        man(Some(folder.path())).unwrap();
        for page in [
            "ashlar.1",
            "ashlar-run.1",
            "ashlar-security-groups-authorize.1",
        ] {
            let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
        }
    }
}
