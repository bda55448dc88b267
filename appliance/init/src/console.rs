//! What stands on the screen: how the host is, and what can be done about it without a network.

use std::fmt::Write as _;

use crate::{Fault, protocol::HostStatus};

/// What is shown beside the host's status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Whether the daemon is well, or why not.
    pub health: Option<Result<(), String>>,
    /// The one-time token, until it was used.
    pub token: Option<String>,
    /// Lines about the network, one for each interface.
    pub network: Vec<String>,
    /// Port of the API.
    pub port: u16,
    /// The last lines of the daemon that tell of trouble.
    pub last_errors: Vec<String>,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Try again what failed: start the daemon anew, apply the network again.
    Retry,
    /// Boot the other slot.
    PreviousSlot,
    /// Forget what was pushed.
    ResetConfiguration,
    /// Forget the host's state: as before its first boot.
    ForgetState,
    /// A new enrolment token.
    NewToken,
    /// Reboot.
    Reboot,
    /// Power off.
    PowerOff,
    /// Draw again.
    Redraw,
}

impl Key {
    /// What a byte typed means.
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte.to_ascii_lowercase() {
            b'r' => Self::Retry,
            b'p' => Self::PreviousSlot,
            b'c' => Self::ResetConfiguration,
            b's' => Self::ForgetState,
            b't' => Self::NewToken,
            b'b' => Self::Reboot,
            b'o' => Self::PowerOff,
            b'\r' | b'\n' | b' ' => Self::Redraw,
            _ => return None,
        })
    }

    /// What is asked back before it is done; none if it is harmless.
    pub fn question(self) -> Option<&'static str> {
        Some(match self {
            Self::PreviousSlot => "Boot the other slot from now on, and reboot? Type y.",
            Self::ResetConfiguration => "Forget the pushed configuration, and reboot? Type y.",
            Self::ForgetState => {
                "Forget who this host is, its configuration and its claim to its data, and reboot? Everybody must enrol again. Type y."
            }
            Self::Reboot => "Stop all instances and reboot? Type y.",
            Self::PowerOff => "Stop all instances and power off? Type y.",
            Self::NewToken => {
                "Make a new enrolment token? Whoever reads it here can manage this host. Type y."
            }
            Self::Retry | Self::Redraw => return None,
        })
    }
}

/// The whole screen.
pub(crate) fn render(status: &HostStatus, shown: &Shown) -> String {
    let mut screen = String::new();
    let mut line = |text: &str| {
        screen.push_str(text);
        screen.push('\n');
    };
    line("");
    let slot = status
        .booted
        .map_or(String::new(), |slot| format!(", slot {slot}"));
    line(&format!(
        "  Ashlar {} ({}{slot})   {}   {}",
        status.version, status.variant, status.hostname, status.host_id
    ));
    let health = match &shown.health {
        None => "starting".to_owned(),
        Some(Ok(())) => "well".to_owned(),
        Some(Err(why)) => why.clone(),
    };
    line(&format!("  health       {health}"));
    match status.addresses.as_slice() {
        [] => line("  API          no address yet"),
        addresses => {
            for address in addresses {
                let host = if address.contains(':') {
                    format!("[{address}]")
                } else {
                    address.clone()
                };
                line(&format!("  API          https://{host}:{}", shown.port));
            }
        }
    }
    for interface in &shown.network {
        line(&format!("  network      {interface}"));
    }
    line(&format!("  fingerprint  {}", status.certificate_sha256));
    if let Some(token) = &shown.token {
        line(&format!("  enrol once   token {token}"));
    }
    line(&format!(
        "  configured   by {}",
        status.configuration_source
    ));
    if let Some(update) = &status.update
        && let Some(reason) = &update.reason
    {
        line(&format!("  update       to {} failed: {reason}", update.to));
    }
    for Fault {
        what,
        message,
        next_step,
    } in &status.faults
    {
        let mut message = message.lines();
        line(&format!(
            "  FAULT        {what}: {}",
            message.next().unwrap_or_default()
        ));
        for more in message {
            line(&format!("               {more}"));
        }
        line(&format!("               -> {next_step}"));
    }
    for error in &shown.last_errors {
        line(&format!("  last error   {error}"));
    }
    line("");
    line(
        "  keys: r retry  p previous slot  c reset configuration  s reset state  t new token  b reboot  o power off",
    );
    screen
}

/// A line for events, with the seconds since the kernel started.
pub(crate) fn event(seconds: f64, text: &str) -> String {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = write!(line, "ashlar[{seconds:.1}] {text}");
    line
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use image_format::Slot;

    pub(crate) fn status() -> HostStatus {
        HostStatus {
            host_id: "ah-1".into(),
            version: "0.1.0".into(),
            variant: "lab".into(),
            hostname: "h".into(),
            booted: Some(Slot::A),
            slots: Vec::new(),
            update: None,
            live: None,
            faults: vec![Fault::new("data", "missing", "connect it")],
            addresses: vec!["10.0.0.7".into(), "2001:db8::7".into()],
            certificate_sha256: "sha256:ab".into(),
            security_floor: 0,
            configuration_source: "the defaults".into(),
            esp: None,
            data: None,
            secure_boot: None,
            measurements: vec![(7, "ab".into())],
            boots: 1,
            memory_used_kib: 0,
        }
    }

    #[test]
    fn the_screen_says_how_to_reach_and_how_to_mend_the_host() {
        let shown = Shown {
            health: Some(Err("the daemon does not answer".into())),
            token: Some("abc-def".into()),
            port: 7443,
            ..Shown::default()
        };
        let screen = render(&status(), &shown);
        for said in [
            "Ashlar 0.1.0 (lab, slot A)",
            "https://10.0.0.7:7443",
            "https://[2001:db8::7]:7443",
            "sha256:ab",
            "token abc-def",
            "FAULT        data: missing",
            "-> connect it",
            "the daemon does not answer",
            "r retry",
        ] {
            assert!(screen.contains(said), "{said} is missing in:\n{screen}");
        }
    }

    #[test]
    fn what_cannot_be_undone_is_asked_back() {
        for (byte, key, asks) in [
            (b'r', Some(Key::Retry), false),
            (b'P', Some(Key::PreviousSlot), true),
            (b'c', Some(Key::ResetConfiguration), true),
            (b's', Some(Key::ForgetState), true),
            (b'b', Some(Key::Reboot), true),
            (b'o', Some(Key::PowerOff), true),
            (b'x', None, false),
        ] {
            assert_eq!(Key::of(byte), key);
            assert_eq!(key.and_then(Key::question).is_some(), asks, "{key:?}");
        }
    }
}
