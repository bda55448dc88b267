//! What the kernel's command line says for the host: `ashlar.config=…` (a configuration, base64) and `ashlar.config-url=…`.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// A configuration, TOML.
    pub config: Option<String>,
    /// Where to fetch one.
    pub config_url: Option<String>,
    /// What made no sense, each a sentence.
    pub problems: Vec<String>,
}

/// Reads a kernel's command line. What is not for the host is passed over.
#[must_use]
pub fn parse(text: &str) -> CommandLine {
    let mut found = CommandLine::default();
    for word in text.split_whitespace() {
        let Some((name, value)) = word
            .strip_prefix("ashlar.")
            .and_then(|word| word.split_once('='))
        else {
            continue;
        };
        match name {
            "config" => {
                let value = value.strip_prefix("base64:").unwrap_or(value);
                match STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(text) => found.config = Some(text),
                    None => found.problems.push("ashlar.config on the kernel's command line is no base64 text: encode the file with `base64 -w0`".to_owned()),
                }
            }
            "config-url" if value.starts_with("http://") || value.starts_with("https://") => {
                found.config_url = Some(value.to_owned());
            }
            "config-url" => found.problems.push("ashlar.config-url on the kernel's command line must begin with http:// or https://".to_owned()),
            other => found.problems.push(format!("the kernel's command line has ashlar.{other}: known are ashlar.config and ashlar.config-url")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_the_host_is_read() {
        let encoded = STANDARD.encode("version = 1\n");
        let found = parse(&format!(
            "quiet ashlar.config=base64:{encoded} ashlar.config-url=http://10.0.2.2/host.toml root=/dev/vda"
        ));
        assert_eq!(found.config.as_deref(), Some("version = 1\n"));
        assert_eq!(
            found.config_url.as_deref(),
            Some("http://10.0.2.2/host.toml")
        );
        assert!(found.problems.is_empty());
        let found = parse("ashlar.config=! ashlar.config-url=ftp://x ashlar.hostname=a");
        assert_eq!(found.problems.len(), 3);
        assert_eq!((found.config, found.config_url), (None, None));
    }
}
