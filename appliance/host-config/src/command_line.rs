//! What the kernel's command line says for the host: `ashlar.config=…` (a configuration, base64) and `ashlar.config-url=…`.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// So much of a command line is read; x86 kernels take 2048 bytes.
const MAX_CHARACTERS: usize = 512 << 10;
/// The longest URL.
const MAX_URL: usize = 2048;

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
    for word in words(text) {
        let Some((name, value)) = word
            .strip_prefix("ashlar.")
            .map(|word| word.split_once('=').unwrap_or((word, "")))
        else {
            continue;
        };
        match name {
            "config" | "config-url" if value.is_empty() => {
                found.problems.push(format!("ashlar.{name} on the kernel's command line has no value"));
            }
            "config" => {
                let value = value.strip_prefix("base64:").unwrap_or(value);
                match STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(text) => found.config = Some(text),
                    None => found.problems.push("ashlar.config on the kernel's command line is no base64 text: encode the file with `base64 -w0`".to_owned()),
                }
            }
            "config-url" if is_url(value) => {
                found.config_url = Some(value.to_owned());
            }
            "config-url" => found.problems.push("ashlar.config-url on the kernel's command line must begin with http:// or https:// and have at most 2048 characters".to_owned()),
            other => found.problems.push(format!("the kernel's command line has ashlar.{}: known are ashlar.config and ashlar.config-url", other.escape_debug().take(64).collect::<String>())),
        }
    }
    found
}

fn is_url(text: &str) -> bool {
    text.len() <= MAX_URL
        && ["http://", "https://"]
            .iter()
            .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The words of a kernel's command line, without their quotes: a space within `"` does not end a word (Linux, lib/cmdline.c,
/// next_arg).
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars().take(MAX_CHARACTERS) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn what_is_within_quotes_is_one_word() {
        for (text, url) in [
            ("ashlar.config-url=\"http://a/b\"", Some("http://a/b")),
            ("\"ashlar.config-url=http://a/b\"", Some("http://a/b")),
            ("name=\"x ashlar.config-url=http://no/ y\"", None),
            (
                "ashlar.config-url=http://a/ ashlar.config-url=http://b/",
                Some("http://b/"),
            ),
        ] {
            let found = parse(text);
            assert_eq!(found.config_url.as_deref(), url, "{text}");
            assert!(found.problems.is_empty(), "{text}");
        }
        for text in [
            "ashlar.config-url=\"http://a/ b\"",
            "ashlar.config-url=https://",
            "ashlar.config",
            "ashlar.config=",
            "ashlar.config=base64:%%%",
        ] {
            let found = parse(text);
            assert_eq!(found.problems.len(), 1, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(ashlar\\.[a-z-]{0,10}=?)?\\PC{0,100}") {
            let _ = parse(&text);
        }
    }
}
