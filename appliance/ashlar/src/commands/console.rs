//! `ashlar console`: at the terminal, or from a script.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use api_types::CONSOLE_FROM_HEADER;
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use regex::bytes::Regex;
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
};

use super::terminal::RawTerminal;
use crate::{
    client::{Client, Error, Query},
    output::{Output, write_out},
};

/// Ctrl-], as in telnet and `virsh console`.
const ESCAPE: u8 = 0x1d;

/// The most output that `--wait-for` looks back on, bytes.
const WINDOW: usize = 1 << 20;

const EXAMPLES: &str = "\
At a terminal every key goes to the instance, ctrl-c too; ctrl-] leaves.

Examples:
  ashlar console i-…                                               sit at it
  ashlar console i-… --no-follow                                   print what there is, and end
  ashlar console i-… --wait-for 'login:' --timeout 60              wait for output, past or to come
  ashlar console i-… --send 'uname -r\\n' --wait-for '# $'          type something, wait for what comes after it";

/// Sit at an instance's serial console, or read it from a script.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Console {
    /// The instance
    id: String,
    /// Print what there is, and end
    #[arg(long)]
    no_follow: bool,
    /// Begin at this offset (bytes since the instance was made); default: at the oldest that is kept
    #[arg(
        long,
        value_name = "OFFSET",
        default_value_t = 0,
        hide_default_value = true
    )]
    from: u64,
    /// Type this text; \n, \r, \t, \e, \xHH and \\ are understood. Output from before it is not printed
    #[arg(long, value_name = "TEXT", value_parser = unescape, allow_hyphen_values = true)]
    send: Option<Bytes>,
    /// Follow until the output matches this regular expression (with --send: the output after it)
    #[arg(long, value_name = "REGEX", conflicts_with = "no_follow")]
    wait_for: Option<Regex>,
    /// Give up following after this many seconds (exit status 4); default: never, with --wait-for 120
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Console {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let remote = Remote {
            client,
            path: format!("{}/console", super::item("instances", &self.id)),
        };
        let mut from = self.from;
        let scripted = self.send.is_some() || self.wait_for.is_some();
        if let Some(text) = self.send {
            from = remote.end(from).await?;
            remote.send(text).await?;
        }
        if self.no_follow {
            return remote.print(from).await.map(drop);
        }
        if !scripted && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            return attach(&remote, &self.id, from, output).await;
        }
        let timeout = self.timeout.or(self.wait_for.is_some().then_some(120));
        let follow = follow(&remote, from, self.wait_for.as_ref());
        match timeout.map(Duration::from_secs) {
            None => follow.await,
            Some(limit) => tokio::time::timeout(limit, follow)
                .await
                .unwrap_or_else(|_| {
                    let what = match &self.wait_for {
                        Some(regex) => format!("`{regex}` on the console of {}", self.id),
                        None => format!("the console of {} to end", self.id),
                    };
                    Err(Error::TimedOut(format!(
                        "waited {} s for {what}",
                        limit.as_secs()
                    )))
                }),
        }
    }
}

/// The console at the host.
struct Remote<'a> {
    client: &'a Client,
    path: String,
}

impl Remote<'_> {
    /// Asks for the output from `from` on; returns the offset where the answer really begins.
    async fn open(&self, from: u64, follow: bool) -> Result<(u64, Incoming), Error> {
        let path = Query::of(&self.path)
            .add("from", Some(from))
            .add("follow", Some(follow))
            .finish();
        let response = self.client.stream(&path).await?;
        let begins = response
            .headers()
            .get(CONSOLE_FROM_HEADER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let begins = begins.ok_or_else(|| Error::NotUnderstood {
            what: "the console".into(),
            source: format!("no header {CONSOLE_FROM_HEADER}").into(),
        })?;
        Ok((begins, response.into_body()))
    }

    /// Reads what there is from `from` on; returns the offset after it.
    async fn read(
        &self,
        mut from: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        loop {
            let (begins, mut body) = self.open(from, false).await?;
            from = begins;
            let mut came = false;
            while let Some(data) = next_data(&mut body).await {
                came = true;
                from += u64::try_from(data.len()).unwrap_or(u64::MAX);
                sink(&data)?;
            }
            if !came {
                return Ok(from);
            }
        }
    }

    async fn print(&self, from: u64) -> Result<u64, Error> {
        self.read(from, write_out).await
    }

    async fn end(&self, from: u64) -> Result<u64, Error> {
        self.read(from, |_| Ok(())).await
    }

    async fn send(&self, text: Bytes) -> Result<(), Error> {
        self.client.post_bytes(&self.path, text).await
    }
}

/// The next bytes; `None` at the end, also when the connection broke off: whoever wants more asks again.
async fn next_data(body: &mut Incoming) -> Option<Bytes> {
    loop {
        let frame = body.frame().await?.ok()?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Some(data);
        }
    }
}

/// Prints the output as it comes, until it matches or the instance is gone.
async fn follow(remote: &Remote<'_>, mut from: u64, until: Option<&Regex>) -> Result<(), Error> {
    let mut window = Vec::new();
    loop {
        let asked = Instant::now();
        let (begins, mut body) = remote.open(from, true).await?;
        if begins > from && from != 0 {
            eprintln!("(bytes {from} to {begins} are no longer kept)");
        }
        from = begins;
        while let Some(data) = next_data(&mut body).await {
            from += u64::try_from(data.len()).unwrap_or(u64::MAX);
            write_out(&data)?;
            if let Some(regex) = until {
                window.extend_from_slice(&data);
                if regex.is_match(&window) {
                    return Ok(());
                }
                window.drain(..window.len().saturating_sub(WINDOW));
            }
        }
        pause(asked).await;
    }
}

/// Keeps a host that ends every stream at once from being asked more than ten times a second.
async fn pause(asked: Instant) {
    tokio::time::sleep(Duration::from_millis(100).saturating_sub(asked.elapsed())).await;
}

/// Joins the terminal and the console until the escape key or the end of the instance.
async fn attach(remote: &Remote<'_>, id: &str, from: u64, output: &Output) -> Result<(), Error> {
    if output.talks() {
        eprintln!("at the console of {id}; ctrl-] leaves");
    }
    let terminal = RawTerminal::enter().map_err(Error::local("setting up the terminal"))?;
    let result = tokio::select! {
        result = follow(remote, from, None) => result,
        result = type_in(remote) => result,
        result = told_to_end() => result,
    };
    drop(terminal);
    if output.talks() {
        eprintln!("\nleft the console of {id}");
    }
    result
}

/// Is over when the process is told to end: the terminal is put right before it does.
async fn told_to_end() -> Result<(), Error> {
    let failed = || Error::local("waiting for signals");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Sends what is typed, in order, until the escape key.
async fn type_in(remote: &Remote<'_>) -> Result<(), Error> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 1024];
    loop {
        let count = stdin
            .read(&mut buffer)
            .await
            .map_err(Error::local("reading the terminal"))?;
        let typed = &buffer[..count];
        let escape = typed.iter().position(|byte| *byte == ESCAPE);
        let text = &typed[..escape.unwrap_or(count)];
        if !text.is_empty() {
            match remote.send(Bytes::copy_from_slice(text)).await {
                // Stopped: its output can still be read, and it may be started again.
                Err(Error::Refused(problem)) if problem.status != 404 => {}
                other => other?,
            }
        }
        if escape.is_some() || count == 0 {
            return Ok(());
        }
    }
}

/// Reads `\n`, `\r`, `\t`, `\e`, `\xHH` and `\\`.
fn unescape(text: &str) -> Result<Bytes, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('e') => 0x1b,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                match hex::decode(&digits).as_deref() {
                    Ok(&[byte]) => byte,
                    _ => {
                        return Err(format!(
                            "`\\x{digits}` is not \\x and two hexadecimal digits"
                        ));
                    }
                }
            }
            Some(other) => {
                return Err(format!(
                    "`\\{other}` is not one of \\n \\r \\t \\e \\xHH \\\\"
                ));
            }
            None => return Err("a backslash at the end: write \\\\ for one".into()),
        });
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(
            unescape(r"a\n\r\t\e\x1d\\é").unwrap(),
            &b"a\n\r\t\x1b\x1d\\\xc3\xa9"[..]
        );
        for bad in [r"\q", r"\", r"\x1", r"\xg0", r"\x+1"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
