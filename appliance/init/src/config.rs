//! Where configurations are found, and what the chosen one means for others.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::Path,
    time::Duration,
};

use boot_disk::{Disk, HostRecord};
use host_config::{Candidates, HostConfig};

use crate::RUN;

/// How long a configuration's URL may take to answer.
const URL_TIMEOUT: Duration = Duration::from_secs(20);

/// What is known before the network is up.
pub(crate) fn candidates(
    record: &HostRecord,
    flashed: Option<String>,
    volume: Option<Vec<u8>>,
    command_line: Option<String>,
) -> Candidates {
    Candidates {
        flashed,
        // What is no text is wrong as a configuration too, and told as such.
        volume: volume.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        command_line,
        url: None,
        pushed: record.configuration.pushed.clone(),
        flashed_at_push: record.configuration.flashed_sha256,
        last_good: record.configuration.last_good.clone(),
    }
}

/// A file of at most `limit` bytes, and one more, on a volume brought along: a file system with that label on any disk or partition but
/// those of `boot_disk`.
pub(crate) fn on_volume(
    disks: &[Disk],
    boot_disk: Option<&Path>,
    label: &str,
    file: &str,
    limit: usize,
) -> Option<Vec<u8>> {
    let others = disks
        .iter()
        .filter(|disk| Some(disk.path.as_path()) != boot_disk);
    let whole = others.clone().map(|disk| disk.path.clone());
    let parts = others.flat_map(|disk| {
        disk.partitions
            .iter()
            .map(|partition| partition.path.clone())
    });
    // A disk drive for virtual media is no disk to write to, but it may bring a configuration.
    let drives = (0..4).map(|number| Path::new("/dev").join(format!("sr{number}")));
    for device in whole.chain(parts).chain(drives) {
        let Some(kind) = labelled(&device, label) else {
            continue;
        };
        let at = Path::new(RUN).join("volume");
        if host::mounts::device(&device, &at, kind, true, "").is_ok() {
            let content = read_bounded(&at.join(file), limit);
            let _ = host::mounts::undo(&at);
            if content.is_some() {
                return content;
            }
        }
    }
    None
}

/// The kind of file system, if a device has one with that label (FAT: Microsoft, "FAT32 File System Specification";
/// ISO 9660 §8.4.7).
fn labelled(device: &Path, label: &str) -> Option<&'static str> {
    let file = File::open(device).ok()?;
    let has = |at: u64| {
        let mut found = vec![0; label.len()];
        file.read_exact_at(&mut found, at).is_ok() && found == label.as_bytes()
    };
    if has(43) || has(71) {
        return Some("vfat");
    }
    has(0x8000 + 40).then_some("iso9660")
}

fn read_bounded(path: &Path, limit: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(limit as u64 + 1).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Fetches a configuration. Blocks for up to 20 seconds.
///
/// # Errors
/// In one line, why not.
pub(crate) fn fetch(url: &str) -> Result<String, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(URL_TIMEOUT))
        .build()
        .into();
    let mut answer = agent
        .get(url)
        .call()
        .map_err(|error| format!("cannot fetch {url}: {error}"))?;
    answer
        .body_mut()
        .with_config()
        .limit(host_config::MAX_BYTES as u64)
        .read_to_string()
        .map_err(|error| format!("cannot read {url}: {error}"))
}

/// The network as the configuration wants it.
pub(crate) fn network_plan(config: &HostConfig, hostname: &str) -> uplink::Plan {
    uplink::Plan {
        hostname: Some(hostname.to_owned()),
        ..uplink::Plan::from(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_format::layout;

    #[test]
    fn volumes_are_known_by_their_label() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        for (at, kind) in [
            (43, Some("vfat")),
            (71, Some("vfat")),
            (0x8000 + 40, Some("iso9660")),
            (100, None),
        ] {
            let file = File::create(&path).unwrap();
            file.set_len(64 << 10).unwrap();
            file.write_all_at(layout::CONFIG_VOLUME_LABEL.as_bytes(), at)
                .unwrap();
            assert_eq!(labelled(&path, layout::CONFIG_VOLUME_LABEL), kind, "{at}");
        }
        assert_eq!(labelled(Path::new("/nonexistent"), "X"), None);
    }

    #[test]
    fn a_url_that_does_not_answer_is_named() {
        let error = fetch("http://127.0.0.1:1/host.toml").unwrap_err();
        assert!(error.contains("http://127.0.0.1:1/host.toml"), "{error}");
    }
}
