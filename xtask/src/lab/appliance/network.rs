//! Servers that a machine finds on its network, and a network of a scenario's own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::command::Invocation;

/// How often a server looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// Seconds between 1900 and 1970 (RFC 5905 §6).
const ERA: u64 = 2_208_988_800;

/// Gives the calling thread, and all that it starts, a network of its own with nothing but a loopback interface. False without root.
pub fn apart() -> Result<bool> {
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    Invocation::new("ip")
        .args(["link", "set", "lo", "up"])
        .read()?;
    Ok(true)
}

/// Another address of the loopback interface, in a network [`apart`].
pub fn add_address(address: &str) -> Result<()> {
    Invocation::new("ip")
        .args(["address", "add", &format!("{address}/32"), "dev", "lo"])
        .read()
        .map(drop)
}

/// A thread that serves until it is dropped.
struct Served {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(mut round: impl FnMut() + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                round();
            }
        });
        Self {
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A web server for the files of a folder.
pub struct Files {
    /// Where it listens, on every address of its network.
    pub port: u16,
    _served: Served,
}

impl Files {
    /// Starts one.
    pub fn serve(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").context("there is no free port")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let folder = folder.to_owned();
        let round = move || match listener.accept() {
            Ok((client, _)) => {
                // Whoever hangs up early misses the rest.
                let _ = answer(client, &folder);
            }
            Err(_) => thread::sleep(LOOK),
        };
        Ok(Self {
            port,
            _served: Served::start(round),
        })
    }
}

fn answer(client: TcpStream, folder: &Path) -> Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let asked = lines.next().context("nothing was asked")??;
    while !lines.next().context("the request has no end")??.is_empty() {}
    let path = asked.split(' ').nth(1).unwrap_or_default();
    let name: PathBuf = PathBuf::from(path.trim_start_matches('/'));
    let plain = name.components().count() == 1;
    let found = fs::read(folder.join(&name)).ok().filter(|_| plain);
    let (status, body) = match &found {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", &b"not here"[..]),
    };
    let mut client = client;
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    client.write_all(body)?;
    Ok(())
}

/// A time server that is ahead (RFC 5905 §7.3).
pub struct TimeServer {
    _served: Served,
}

impl TimeServer {
    /// Starts one on the loopback interface.
    pub fn start(ahead: Duration) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:123").context("cannot be a time server")?;
        socket.set_read_timeout(Some(LOOK))?;
        let round = move || {
            let mut request = [0; 48];
            let Ok((_, client)) = socket.recv_from(&mut request) else {
                return;
            };
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                + ahead;
            let seconds = u32::try_from(now.as_secs() + ERA).unwrap_or_default();
            let fraction = u32::try_from((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000)
                .unwrap_or_default();
            let mut reply = [0; 48];
            // Version 4, mode 4 (server), stratum 1.
            (reply[0], reply[1]) = (0x24, 1);
            reply[24..32].copy_from_slice(&request[40..48]);
            for at in [16, 32, 40] {
                reply[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
                reply[at + 4..at + 8].copy_from_slice(&fraction.to_be_bytes());
            }
            let _ = socket.send_to(&reply, client);
        };
        Ok(Self {
            _served: Served::start(round),
        })
    }
}
