//! A variant of the image: which kernel, modules and programs it has. Data, not code.

use image_format::Variant;
use serde::Deserialize;

use crate::{BuildError, Kernel};

/// The variants that come with the builder.
const KNOWN: [&str; 3] = [
    include_str!("../variants/metal.toml"),
    include_str!("../variants/cloud.toml"),
    include_str!("../variants/lab.toml"),
];
/// The size of an EFI system partition, MiB.
const ESP_MIB: std::ops::RangeInclusive<u64> = 64..=4096;

/// What is said of a variant in its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantFile {
    /// Its name.
    pub name: Variant,
    /// What it is for.
    pub description: String,
    /// The Debian package that depends on the kernel of the day.
    pub kernel_package: String,
    /// The kernel's command line.
    pub command_line: String,
    /// Size of the EFI system partition, 64–4096 MiB: it must hold two images, a third in the making, and the boot loader.
    pub esp_mib: u64,
    /// Modules, by name.
    pub modules: Vec<String>,
    /// Folders of the kernel's module tree of which every module is taken.
    #[serde(default)]
    pub module_folders: Vec<String>,
    /// Modules that are left out although a folder has them.
    #[serde(default)]
    pub without: Vec<String>,
    /// Those of them that are loaded at every boot, because no device asks for them.
    pub load: Vec<String>,
    /// Programs that the host runs, by name.
    pub programs: Vec<String>,
}

impl VariantFile {
    /// Reads a variant.
    ///
    /// # Errors
    /// The text is no variant; the message points at the line.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let variant: Self = toml::from_str(text)
            .map_err(|error| BuildError::because("the variant cannot be read", error))?;
        if !ESP_MIB.contains(&variant.esp_mib) {
            return Err(BuildError::new(format!(
                "the variant's esp_mib is {}: from {} to {} are possible",
                variant.esp_mib,
                ESP_MIB.start(),
                ESP_MIB.end()
            )));
        }
        Ok(variant)
    }

    /// The variant of that name that comes with the builder.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn known(name: &str) -> Result<Self, BuildError> {
        let known: Result<Vec<Self>, BuildError> = KNOWN.into_iter().map(Self::parse).collect();
        let known = known?;
        let names: Vec<&str> = known.iter().map(|variant| variant.name.as_str()).collect();
        let unknown = format!("there is no variant {name}: there are {}", names.join(", "));
        known
            .into_iter()
            .find(|variant| variant.name.as_str() == name)
            .ok_or_else(|| BuildError::new(unknown))
    }

    /// The names of its modules, folders included.
    #[must_use]
    pub fn all_modules(&self, kernel: &Kernel) -> Vec<String> {
        let left_out = |name: &String| {
            let plain = name.replace('-', "_");
            self.without
                .iter()
                .any(|other| other.replace('-', "_") == plain)
        };
        let mut names = kernel.below(&self.module_folders);
        names.retain(|name| !left_out(name));
        names.extend(self.modules.iter().chain(&self.load).cloned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variants_that_come_along_are_sound() {
        for name in ["metal", "cloud", "lab"] {
            let variant = VariantFile::known(name).unwrap();
            assert_eq!(variant.name.as_str(), name);
            assert!(variant.load.iter().any(|module| module == "xfs"), "{name}");
        }
        let error = VariantFile::known("none").unwrap_err().to_string();
        assert!(error.contains("metal, cloud, lab"), "{error}");
        assert!(VariantFile::parse("name = 'x'\nunknown = 1").is_err());
    }
}
