//! The operator's parameters.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};
use core::{fmt::Display, str::FromStr};

/// Named parameters, as the operator set them.
///
/// ```
/// # use ashlar_policy::Configuration;
/// let configuration = Configuration::from_iter([("limit", "12")]);
/// assert_eq!(configuration.parse("limit", 10_u32), Ok(12));
/// assert_eq!(configuration.parse("other", 10_u32), Ok(10));
/// let error = configuration.allow(&["size"], &[]).unwrap_err();
/// assert_eq!(error, "unknown parameter `limit`; there are `size`");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration(BTreeMap<String, String>);

impl Configuration {
    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a parameter as a `T`, or `default` if it isn't set.
    ///
    /// # Errors
    /// A sentence for the operator when the value is no `T`.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T, String> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value
            .parse()
            .map_err(|error| format!("parameter `{name}` is `{value}`: {error}"))
    }

    /// The parameters whose names begin with `prefix`, with the rest of their names.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// Refuses parameters that are neither among `names` nor begin with one of `prefixes`: a misspelt one should not pass
    /// unnoticed.
    ///
    /// # Errors
    /// A sentence for the operator that names the first one.
    pub fn allow(&self, names: &[&str], prefixes: &[&str]) -> Result<(), String> {
        let known = |name: &str| {
            names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        let Some(unknown) = self.0.keys().find(|name| !known(name)) else {
            return Ok(());
        };
        let mut there = String::new();
        for (known, rest) in names
            .iter()
            .map(|name| (name, ""))
            .chain(prefixes.iter().map(|prefix| (prefix, "…")))
        {
            let comma = if there.is_empty() { "" } else { ", " };
            there += &format!("{comma}`{known}{rest}`");
        }
        Err(format!("unknown parameter `{unknown}`; there are {there}"))
    }
}

impl<N: ToString, V: ToString> FromIterator<(N, V)> for Configuration {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(parameters: I) -> Self {
        let text = |(name, value): (N, V)| (name.to_string(), value.to_string());
        Self(parameters.into_iter().map(text).collect())
    }
}
