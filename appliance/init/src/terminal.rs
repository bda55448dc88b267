//! The terminals of a host: the kernel's console and, where that is a serial line, the screen too.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    thread,
};

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// Where people look.
pub(crate) struct Terminals {
    files: Vec<File>,
}

impl Terminals {
    /// Opens what there is.
    pub fn open() -> Self {
        let console_is_serial =
            std::fs::read_to_string("/sys/class/tty/console/active").is_ok_and(|active| {
                active
                    .split_whitespace()
                    .last()
                    .is_some_and(|last| last.starts_with("ttyS"))
            });
        let mut paths = vec!["/dev/console"];
        if console_is_serial {
            paths.push("/dev/tty1");
        }
        let mut files = Vec::new();
        for path in paths {
            let Ok(file) = File::options().read(true).write(true).open(Path::new(path)) else {
                continue;
            };
            immediate(&file);
            files.push(file);
        }
        Self { files }
    }

    /// Keys that are typed on any of them. To be asked for once: whoever listened before gets the next key and drops it.
    pub fn keys(&self) -> mpsc::Receiver<u8> {
        let (keys, typed) = mpsc::channel(64);
        for reader in self.files.iter().filter_map(|file| file.try_clone().ok()) {
            listen(reader, keys.clone());
        }
        typed
    }

    /// Shows a text on all of them; a terminal that fails is passed over.
    pub fn show(&self, text: &str) {
        let text = text.replace('\n', "\r\n");
        for mut file in &self.files {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Keys arrive when they are pressed, and are not echoed.
fn immediate(file: &File) {
    if let Ok(mut modes) = tcgetattr(file) {
        modes.make_raw();
        let _ = tcsetattr(file, OptionalActions::Now, &modes);
    }
}

fn listen(mut from: File, keys: mpsc::Sender<u8>) {
    let listener = thread::Builder::new()
        .name("keys".into())
        .stack_size(64 << 10);
    let read = move || {
        let mut byte = [0];
        // Ends with the terminal, or with whoever listens.
        while from.read(&mut byte).is_ok_and(|count| count == 1) {
            if keys.blocking_send(byte[0]).is_err() {
                return;
            }
        }
    };
    let _ = listener.spawn(read);
}
