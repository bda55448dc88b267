//! What components under test are asked, and where.

pub use crate::text::{BillingExports, billing, billing_with, scheduler};

use crate::text::{COMMON, component};
use placement::{Affinity, HostRow, HostTable, PlacementRequest};
use plugin_host::{Limits, Parameters, PluginHost};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use types::{ByteCount, HostId, InstanceId};

/// A folder that goes away with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("ashlar-plugin-host-{process}-{next}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A host program with a cache of its own.
pub struct Host {
    pub host: PluginHost,
    _cache: Folder,
}

impl Host {
    pub fn new(limits: Limits) -> Self {
        let cache = Folder::new();
        Self {
            host: PluginHost::new(limits, cache.path()).unwrap(),
            _cache: cache,
        }
    }
}

/// Limits with which only what a test is about is hit.
pub fn limits() -> Limits {
    Limits {
        deadline: Duration::from_millis(500),
        fuel: 20_000_000,
        calls: 4,
        ..Limits::default()
    }
}

pub fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// Words as the bytes of a data segment.
pub fn words(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    bytes.map(|byte| format!("\\{byte:02x}")).collect()
}

/// An answer of `filter-and-score` at 2048: this many hosts, all with the code at 3000… and the score at 4096….
pub fn verdicts(hosts: u32, code: u8, score: f64) -> String {
    let answer = words(&[0, 0, 0, 3000, hosts, 4096, hosts]);
    let codes = format!("\\{code:02x}").repeat(8);
    let scores: String = score
        .to_le_bytes()
        .iter()
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    format!(
        r#"(data (i32.const 2048) "{answer}") (data (i32.const 3000) "{codes}") (data (i32.const 4096) "{}")"#,
        scores.repeat(8)
    )
}

/// An admission policy whose `admit` runs `body`; `more` comes before it.
pub fn admission(more: &str, body: &str) -> Vec<u8> {
    let name = "ashlar:policy/admitting@0.4.0";
    let module = format!(
        r#"(module {more} {COMMON}
          (func (export "{name}#check-configuration") (param i32 i32) (result i32) (i32.const 1024))
          (func (export "{name}#admit") (param i32) (result i32) {body}))"#
    );
    component("admission", &module)
}

/// A small instance.
pub fn request() -> PlacementRequest {
    PlacementRequest {
        instance: InstanceId::generate(7),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        local_disk: ByteCount::ZERO,
        zone: None,
        deployment_set: None,
        spot: false,
        affinity: Affinity::default(),
    }
}

/// A table of empty hosts.
pub fn hosts(count: u32) -> HostTable {
    let host = |id: u32| {
        let id = HostId::generate(id.into());
        HostRow::new(id, "zone-a", 16, ByteCount::from_gib(64))
    };
    HostTable::new((0..count).map(host).collect()).unwrap()
}
