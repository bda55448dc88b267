//! What an image says of itself, in the lines of os-release(5).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use types::ParseError;

/// The longest name of a variant.
const MAX_VARIANT: usize = 32;
/// The longest version.
const MAX_VERSION: usize = 64;
/// What `IMAGE_ID` says in every image of this product.
const IMAGE_ID: &str = "ashlar";

/// Which hardware an image is for: `metal`, `cloud`, `lab`, or one's own. 1–32 lower-case letters, digits and dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variant(String);

impl Variant {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Variant {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > MAX_VARIANT || !text.bytes().all(allowed) {
            return Err(ParseError::new(
                "a variant",
                "1 to 32 of a-z, 0-9 and -",
                text,
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Variant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Variant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Version of the product in it.
    pub version: String,
    /// Which hardware it is for.
    pub variant: Variant,
    /// Rises when an older image must not come back (anti-rollback): a host never takes one below the highest floor it has seen.
    pub security_version: u32,
    /// Schema of the daemon's state in it.
    pub state_schema: u64,
}

/// An os-release that is not of this product, or lacks something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// `IMAGE_ID` is something else.
    #[error("this is not an image of Ashlar: its os-release says IMAGE_ID={0:?}")]
    Foreign(String),
    /// A line is missing or makes no sense.
    #[error("the image's os-release has no proper {0}")]
    Line(&'static str),
}

impl Release {
    /// The lines of os-release(5) and of this product.
    #[must_use]
    pub fn os_release(&self) -> String {
        let Self {
            version,
            variant,
            security_version,
            state_schema,
        } = self;
        format!(
            "NAME=Ashlar\nID={IMAGE_ID}\nPRETTY_NAME=\"Ashlar {version} ({variant})\"\nVERSION_ID={version}\nIMAGE_ID={IMAGE_ID}\n\
             IMAGE_VERSION={version}\nVARIANT_ID={variant}\nASHLAR_SECURITY_VERSION={security_version}\n\
             ASHLAR_STATE_SCHEMA={state_schema}\n"
        )
    }

    /// Reads those lines.
    ///
    /// # Errors
    /// The text is of another system, or lacks a line.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let value = |name: &'static str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"'))
                .ok_or(ReleaseError::Line(name))
        };
        let id = value("IMAGE_ID").unwrap_or_default();
        if id != IMAGE_ID {
            return Err(ReleaseError::Foreign(id.chars().take(32).collect()));
        }
        let version = value("IMAGE_VERSION")?;
        if !is_version(version) {
            return Err(ReleaseError::Line("IMAGE_VERSION"));
        }
        let number = |name| {
            value(name)?
                .parse::<u64>()
                .map_err(|_| ReleaseError::Line(name))
        };
        Ok(Self {
            version: version.to_owned(),
            variant: value("VARIANT_ID")?
                .parse()
                .map_err(|_| ReleaseError::Line("VARIANT_ID"))?,
            security_version: u32::try_from(number("ASHLAR_SECURITY_VERSION")?)
                .map_err(|_| ReleaseError::Line("ASHLAR_SECURITY_VERSION"))?,
            state_schema: number("ASHLAR_STATE_SCHEMA")?,
        })
    }
}

/// Whether a text can be a version: it becomes part of file names.
pub(crate) fn is_version(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-+~".contains(&b);
    matches!(text.len(), 1..=MAX_VERSION) && text.bytes().all(allowed) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_comes_back() {
        let release = Release {
            version: "0.1.0".into(),
            variant: "lab".parse().unwrap(),
            security_version: 3,
            state_schema: 1,
        };
        let text = release.os_release();
        assert_eq!(Release::parse(&text), Ok(release));
        let without = |name: &str| -> String {
            text.lines()
                .filter(|line| !line.starts_with(name))
                .map(|line| format!("{line}\n"))
                .collect()
        };
        assert_eq!(
            Release::parse(&without("VARIANT_ID")),
            Err(ReleaseError::Line("VARIANT_ID"))
        );
        assert_eq!(
            Release::parse("IMAGE_ID=other"),
            Err(ReleaseError::Foreign("other".into()))
        );
        assert_eq!(
            Release::parse(&text.replace("VERSION=3", "VERSION=-3")),
            Err(ReleaseError::Line("ASHLAR_SECURITY_VERSION"))
        );
    }

    #[test]
    fn versions_and_variants_can_be_parts_of_file_names() {
        for bad in ["", "../x", "a/b", ".hidden", &"1".repeat(65)] {
            assert!(!is_version(bad), "{bad}");
        }
        assert!(is_version("0.1.0-rc.1+5"));
        for bad in ["", "Lab", "a b", &"a".repeat(33)] {
            assert!(bad.parse::<Variant>().is_err(), "{bad}");
        }
    }
}
