//! Sizes as people type them.

/// Reads `512`, `512M`, `512MiB`, `2G`, `1T`; without a unit it is MiB. Returns MiB.
///
/// # Errors
/// Says what is wrong with the text.
pub fn memory_mib(text: &str) -> Result<u64, String> {
    parse(text, 1)
}

/// Reads `20`, `20G`, `20GiB`, `1T`; without a unit it is GiB. Returns GiB.
///
/// # Errors
/// Says what is wrong with the text.
pub fn disk_gib(text: &str) -> Result<u64, String> {
    let mib = parse(text, 1024)?;
    if mib % 1024 != 0 {
        return Err(format!("`{text}` is not a whole number of GiB"));
    }
    Ok(mib / 1024)
}

/// Reads `20G`, `512M`; without a unit it is MiB. Returns bytes.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    parse(text, 1)?
        .checked_mul(1 << 20)
        .ok_or_else(|| format!("`{text}` is too large"))
}

fn parse(text: &str, default_unit_mib: u64) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_mib = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => default_unit_mib,
        "m" | "mi" | "mib" => 1,
        "g" | "gi" | "gib" => 1024,
        "t" | "ti" | "tib" => 1024 * 1024,
        unit => {
            return Err(format!(
                "`{unit}` is no unit: use M, G or T (powers of 1024)"
            ));
        }
    };
    let count: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is not a size: expected a whole number and M, G or T"))?;
    match count.checked_mul(unit_mib) {
        Some(0) => Err("a size of 0 makes no sense".into()),
        Some(mib) => Ok(mib),
        None => Err(format!("`{text}` is too large")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_type_them() {
        for (text, mib) in [
            ("512", 512),
            ("512M", 512),
            ("2g", 2048),
            ("2GiB", 2048),
            ("1T", 1 << 20),
        ] {
            assert_eq!(memory_mib(text), Ok(mib), "{text}");
        }
        for (text, gib) in [("20", 20), ("20G", 20), ("2048M", 2), ("1T", 1024)] {
            assert_eq!(disk_gib(text), Ok(gib), "{text}");
        }
        for bad in [
            "",
            "0",
            "G",
            "-1",
            "1.5G",
            "1KB",
            "1 G",
            "99999999999999999999",
            "99999999999999T",
        ] {
            assert!(memory_mib(bad).is_err(), "{bad}");
        }
        assert!(disk_gib("1500M").is_err());
    }
}
