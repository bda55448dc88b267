//! The software bill of materials: what of whom is in an image (CycloneDX 1.5).

use cyclonedx_bom::models::{
    bom::{Bom, UrnUuid},
    component::{Classification, Component, Components},
    metadata::Metadata,
};
use sha2::{Digest as _, Sha256};

use crate::BuildError;

/// A part of somebody's making.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ingredient {
    /// `deb` or `cargo`: the ecosystem in its package URL.
    pub ecosystem: &'static str,
    /// Its name there.
    pub name: String,
    /// Its version there.
    pub version: String,
}

/// The bill of an image called `name`, as JSON. The same parts give the same bytes, whatever their order.
///
/// # Errors
/// It cannot be written.
pub fn sbom(name: &str, version: &str, parts: &[Ingredient]) -> Result<Vec<u8>, BuildError> {
    let mut parts = parts.to_vec();
    parts.sort();
    parts.dedup();
    let components = parts.iter().map(|part| {
        let kind = if part.ecosystem == "deb" {
            "deb/debian"
        } else {
            part.ecosystem
        };
        let reference = format!("pkg:{kind}/{}@{}", part.name, part.version);
        let mut component = Component::new(
            Classification::Library,
            &part.name,
            &part.version,
            Some(reference.clone()),
        );
        component.purl = reference.parse().ok();
        component
    });
    let digest = Sha256::digest(format!("{name}\0{version}\0{parts:?}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    let number = uuid::Builder::from_custom_bytes(bytes).into_uuid();
    let image = Component::new(
        Classification::OperatingSystem,
        name,
        version,
        Some(name.to_owned()),
    );
    let failed = |error: String| {
        BuildError::new(format!(
            "cannot write the software bill of materials: {error}"
        ))
    };
    let bom = Bom {
        serial_number: Some(UrnUuid::from(number)),
        // Without a time: it would be another one with each build.
        metadata: Some(Metadata {
            component: Some(image),
            ..Metadata::default()
        }),
        components: Some(Components(components.collect())),
        ..Bom::default()
    };
    let mut text = Vec::new();
    bom.output_as_json_v1_5(&mut text)
        .map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_listed_once_in_whatever_order_they_come() {
        let part = |ecosystem, name: &str| Ingredient {
            ecosystem,
            name: name.into(),
            version: "1.0".into(),
        };
        let one = sbom(
            "ashlar",
            "0.1.0",
            &[
                part("deb", "xfsprogs"),
                part("cargo", "serde"),
                part("cargo", "serde"),
            ],
        )
        .unwrap();
        let two = sbom(
            "ashlar",
            "0.1.0",
            &[part("cargo", "serde"), part("deb", "xfsprogs")],
        )
        .unwrap();
        assert_eq!(one, two);
        let read: serde_json::Value = serde_json::from_slice(&one).unwrap();
        assert_eq!(read["specVersion"], "1.5");
        let purls: Vec<&str> = read["components"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|c| c["purl"].as_str())
            .collect();
        assert_eq!(
            purls,
            ["pkg:cargo/serde@1.0", "pkg:deb/debian/xfsprogs@1.0"]
        );
        assert!(Bom::parse_from_json_v1_5(&one[..]).is_ok());
    }
}
