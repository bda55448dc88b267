//! A host for one test, and what tests ask of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use xtask::command::Invocation;
use xtask::guest::{Event, Guest};
use xtask::host::Host;
use xtask::{paths, privilege};

/// How long anything may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Sparse.
const POOL_SIZE: u64 = 4 << 30;

/// A host with the probe as an image, a VPC, a vswitch and an isolated security group.
pub struct Site {
    pub host: Host,
    pub vpc: String,
    pub vswitch: String,
    pub group: String,
    // Goes after the host that is in it.
    folder: TempDir,
}

/// An instance as a test knows it.
pub struct Started {
    pub id: String,
    pub address: String,
}

impl Site {
    /// A host whose daemon was started with these options.
    pub fn new(options: &[&str]) -> Result<Self> {
        let mut site = Self::idle(options)?;
        site.host.start()?;
        let probe = probe();
        let probe = probe.to_str().context("the probe's path is not UTF-8")?;
        let host = &site.host;
        host.cli(&["images", "import", "--name", "probe", "--kernel", probe])?;
        let vpc = text(&host.cli(&["vpcs", "create", "10.61.0.0/16"])?, "id")?;
        let vswitch = host.cli(&["vswitches", "create", "--vpc", &vpc, "10.61.1.0/24"])?;
        let group = host.cli(&["security-groups", "create", "--vpc", &vpc, "--isolated"])?;
        (site.vswitch, site.group) = (text(&vswitch, "id")?, text(&group, "id")?);
        site.vpc = vpc;
        Ok(site)
    }

    /// A host whose daemon does not run and has never run.
    pub fn idle(options: &[&str]) -> Result<Self> {
        ensure!(
            privilege::is_root(),
            "these tests need root: run them by `cargo xtask test`, or as root"
        );
        let folder = tempfile::Builder::new().prefix("ash").tempdir()?;
        let host = Host::new(&folder.path().join("h"), POOL_SIZE, options)?;
        let (vpc, vswitch, group) = Default::default();
        Ok(Self {
            host,
            vpc,
            vswitch,
            group,
            folder,
        })
    }

    /// A file for the test's own use; goes with the host.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<String> {
        let path = self.folder.path().join(name);
        fs::write(&path, content)?;
        Ok(path.to_str().context("not UTF-8")?.to_owned())
    }

    /// Runs a probe without waiting for anything.
    pub fn launch(&self, script: &str, more: &[&str]) -> Result<Started> {
        let cmdline = format!("probe=\"{script}\"");
        let mut args = vec!["run", "probe", "--cmdline", &cmdline];
        for (option, default) in [
            ("--vcpus", "1"),
            ("--memory", "32M"),
            ("--vswitch", self.vswitch.as_str()),
            ("--security-group", self.group.as_str()),
        ] {
            if !more.contains(&option) {
                args.extend([option, default]);
            }
        }
        args.extend(more);
        let created = self.host.cli(&args)?;
        let instance = &created["instances"][0];
        Ok(Started {
            id: text(instance, "id")?,
            address: text(&instance["network_interfaces"][0], "private_ip")?,
        })
    }

    /// Runs a probe and waits until it has obeyed its script.
    pub fn run(&self, script: &str, more: &[&str]) -> Result<Started> {
        let more = [more, &["--wait"]].concat();
        let started = self.launch(script, &more)?;
        self.guest(&started)
            .wait_for("probe: script-end", PATIENCE)?;
        Ok(started)
    }

    /// The console of an instance.
    pub fn guest<'a>(&'a self, instance: &'a Started) -> Guest<'a> {
        Guest::new(&self.host, &instance.id)
    }

    /// Types a statement and returns its answer of that name.
    pub fn ask(&self, instance: &Started, statement: &str, name: &str) -> Result<Event> {
        self.guest(instance).ask(statement, name, PATIENCE)
    }

    /// Types a statement that must succeed.
    pub fn tell(&self, instance: &Started, statement: &str) -> Result<()> {
        self.guest(instance).tell(statement, PATIENCE).map(drop)
    }

    /// What the API says of an instance.
    pub fn show(&self, instance: &Started) -> Result<Value> {
        self.host.cli(&["show", &instance.id])
    }

    /// The process of a running instance.
    pub fn vmm_pid(&self, instance: &Started) -> Result<u64> {
        let shown = self.show(instance)?;
        let pid = shown["vmm_pid"].as_u64();
        pid.with_context(|| format!("it has no vmm: {shown}"))
    }

    /// Waits until the instance is Stopped for that reason; returns what the reason says.
    pub fn stopped(&self, instance: &Started, code: &str) -> Result<String> {
        let shown = poll("the instance is Stopped", || {
            let shown = self.show(instance)?;
            Ok((shown["state"] == "Stopped").then_some(shown))
        })?;
        ensure!(
            shown["state_reason"]["code"] == code,
            "expected {code}: {shown}"
        );
        text(&shown["state_reason"], "message")
    }

    /// The instance's first data disk, or its system disk.
    pub fn disk(&self, instance: &Started, position: usize) -> Result<String> {
        text(&self.show(instance)?["disks"][position], "disk_id")
    }

    /// The file of a disk.
    pub fn disk_file(&self, disk: &str) -> PathBuf {
        self.host.volumes().join("disks").join(disk)
    }

    /// The command must be refused by the host with that code and all these words in its one error.
    pub fn refused(&self, args: &[&str], code: &str, words: &[&str]) -> Result<()> {
        let output = self.host.try_cli(args)?;
        let said = &output.err;
        let shown = format!("`ashlar {}` said:\n{said}", args.join(" "));
        ensure!(
            output.status.code() == Some(1),
            "{}; {shown}",
            output.status
        );
        ensure!(
            said.contains(&format!("  code: {code}, request: ")),
            "expected {code}; {shown}"
        );
        let errors = said.lines().filter(|line| line.starts_with("error: "));
        ensure!(errors.count() == 1, "not one error; {shown}");
        for word in words {
            ensure!(said.contains(word), "{word:?} is missing; {shown}");
        }
        Ok(())
    }

    /// The same, and the answer says what to do.
    pub fn refused_with_advice(&self, args: &[&str], code: &str, words: &[&str]) -> Result<()> {
        self.refused(args, code, &[words, &["  next: "]].concat())
    }

    /// What the daemon keeps of this host's running machines outside of its records: one line per process, tap and disk file.
    /// Disks the API knows are left out.
    pub fn traces(&self) -> Result<BTreeSet<String>> {
        let mut traces = BTreeSet::new();
        for pid in vmms(&self.host.state())? {
            traces.insert(format!("vmm {pid}"));
        }
        for name in self.namespaces()? {
            for tap in taps(&name)? {
                traces.insert(format!("tap {tap} in {name}"));
            }
        }
        let known = self.host.cli(&["disks", "ls"])?.to_string();
        for folder in ["disks", "unfinished"] {
            for entry in fs::read_dir(self.host.volumes().join(folder))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if !known.contains(&format!("\"{name}\"")) {
                    traces.insert(format!("{folder}/{name}"));
                }
            }
        }
        Ok(traces)
    }

    /// Nothing of a machine is left, and the daemon serves.
    pub fn clean(&self) -> Result<()> {
        self.host.cli(&["host"])?;
        let mut last = BTreeSet::new();
        poll("nothing is left behind", || {
            last = self.traces()?;
            Ok(last.is_empty().then_some(()))
        })
        .with_context(|| format!("still there: {last:?}"))
    }

    /// The network namespaces of this host.
    fn namespaces(&self) -> Result<Vec<String>> {
        let prefix = namespace_prefix(&self.host.state())?;
        let Ok(entries) = fs::read_dir("/run/netns") else {
            return Ok(Vec::new());
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with(&prefix)).collect())
    }

    /// One request over the unix socket.
    pub fn http(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let socket = UnixStream::connect(self.host.state().join("api.sock"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        exchange(socket, method, path, "", body)
    }
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

/// One request over loopback TCP with a header line of the caller's.
pub fn http_tcp(address: &str, header: &str, path: &str) -> Result<Answer> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    exchange(socket, "GET", path, header, "")
}

fn exchange(
    mut socket: impl Read + Write,
    method: &str,
    path: &str,
    header: &str,
    body: &str,
) -> Result<Answer> {
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).with_context(|| format!("no JSON: {body}"))?
    };
    Ok(Answer {
        status,
        head: head.to_ascii_lowercase(),
        body,
    })
}

/// The guest that all tests run.
pub fn probe() -> PathBuf {
    paths::out().join("probe")
}

/// Looks until there is something to return, at most [`PATIENCE`].
pub fn poll<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain until {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

/// A text of a JSON object.
pub fn text(value: &Value, key: &str) -> Result<String> {
    let found = value[key].as_str().map(str::to_owned);
    found.with_context(|| format!("`{key}` is missing in {value}"))
}

/// Sends a signal to a process.
pub fn signal(name: &str, pid: u64) -> Result<()> {
    let kill = Invocation::as_root("kill").args(["-s", name, &pid.to_string()]);
    kill.read().map(drop)
}

/// Waits until a process is gone.
pub fn gone(pid: u64) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{pid}/exe"));
    poll("the process is gone", || {
        Ok(fs::read_link(&path).is_err().then_some(()))
    })
}

/// The vmm processes that have something of this state folder open.
pub fn vmms(state: &Path) -> Result<Vec<u64>> {
    let state = state.canonicalize()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
        else {
            continue;
        };
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).nth(1) != Some(b"vmm") {
            continue;
        }
        let Ok(descriptors) = fs::read_dir(path.join("fd")) else {
            continue;
        };
        let open = |fd: std::io::Result<fs::DirEntry>| fs::read_link(fd.ok()?.path()).ok();
        if descriptors
            .filter_map(open)
            .any(|target| target.starts_with(&state))
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What the names of the namespaces of the host with that state folder begin with.
pub fn namespace_prefix(state: &Path) -> Result<String> {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(state.canonicalize()?.as_os_str().as_bytes());
    let hex: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("ash{hex}-"))
}

fn taps(namespace: &str) -> Result<Vec<String>> {
    let table = Invocation::as_root("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["cat", "/proc/net/dev"])
        .read()?;
    let devices = table.lines().filter_map(|line| line.split_once(':'));
    Ok(devices
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| name != "lo")
        .collect())
}
