//! The host's own network, its settings and its clock, as its configuration says.

use std::time::Instant;

use futures_util::FutureExt as _;
use host::clock::Correction;

use super::{CLOCK_INTERVAL, CLOCK_RETRY, Init, URL_PATIENCE};
use crate::{Fault, config, fault::chain};

impl Init {
    /// The network as the configuration wants it, with the modules loaded that it takes.
    pub(super) fn network_plan(&mut self) -> uplink::Plan {
        let plan = config::network_plan(&self.machine.chosen.config, &self.machine.hostname());
        if let Some(modules) = &mut self.machine.modules {
            let needed: Vec<&str> = plan.modules().collect();
            for error in needed
                .into_iter()
                .filter_map(|name| modules.load(name).err())
            {
                self.machine.faults.set(Fault::because(
                    "network",
                    &error,
                    "Use an image with that module, or a configuration without.",
                ));
            }
        }
        plan
    }

    pub(super) fn start_network(&mut self) {
        let plan = self.network_plan();
        match uplink::Uplink::start(plan, uplink::Options::default()) {
            Ok(handle) => self.uplink = Some(handle),
            Err(error) => {
                self.machine.faults.set(Fault::because(
                    "network",
                    &error,
                    "Reboot; if it happens again, report it.",
                ));
            }
        }
    }

    pub(super) async fn fetch_configuration(&mut self, url: &str) {
        if let Some(uplink) = &self.uplink {
            uplink.reachable(URL_PATIENCE).await;
        }
        let asked = url.to_owned();
        let fetched = tokio::task::spawn_blocking(move || config::fetch(&asked)).await;
        let text = match fetched {
            Ok(Ok(text)) => text,
            Ok(Err(why)) => {
                self.machine.faults.set(Fault::new(
                    "configuration",
                    why,
                    "Check the URL in the boot script and the server behind it.",
                ));
                return;
            }
            Err(_) => return,
        };
        let mut candidates = config::candidates(self.machine.records.record(), None, None, None);
        candidates.url = Some(text);
        self.machine.chosen = host_config::choose(&candidates);
        self.machine.note_configuration();
        let plan = self.network_plan();
        let _ = host::settings::host_name(&self.machine.hostname());
        if let Some(uplink) = &self.uplink {
            let _ = uplink.reapply(plan).await;
        }
    }

    pub(super) fn apply_kernel_settings(&mut self) {
        let kernel = self.machine.chosen.config.kernel.clone();
        let mut wrong = Vec::new();
        if let Some(modules) = &mut self.machine.modules {
            wrong.extend(
                kernel
                    .modules
                    .iter()
                    .filter_map(|name| modules.load(name).err()),
            );
        }
        wrong.extend(
            kernel
                .sysctl
                .iter()
                .filter_map(|(name, value)| host::settings::set(name, value).err()),
        );
        match host::settings::huge_pages(kernel.hugepages_2m, kernel.hugepages_1g) {
            Ok(got) if got == (kernel.hugepages_2m, kernel.hugepages_1g) => {}
            Ok((small, large)) => self.tell(&format!(
                "room for {small} huge pages of 2 MiB and {large} of 1 GiB only"
            )),
            Err(error) => wrong.push(error),
        }
        if !wrong.is_empty() {
            let all: Vec<String> = wrong.iter().map(|error| chain(error)).collect();
            self.machine.faults.set(Fault::new(
                "kernel",
                all.join("; "),
                "Correct `[kernel]` in the configuration.",
            ));
        }
    }

    /// A list of CPUs that this machine cannot do without is a fault; then nobody has CPUs of their own, and the daemon starts.
    pub(super) fn check_cpus(&mut self) {
        let Ok(cpus) = std::thread::available_parallelism() else {
            return;
        };
        let dedicated = &mut self.machine.chosen.config.cpu.dedicated;
        let there = |cpu| usize::try_from(cpu).is_ok_and(|cpu| cpu < cpus.get());
        let shared = (0..u32::MAX)
            .take(cpus.get())
            .any(|cpu| !dedicated.contains(cpu));
        let message = match dedicated.iter().find(|cpu| !there(*cpu)) {
            Some(cpu) => {
                format!("there is no CPU {cpu} to dedicate: this machine has {cpus}, from 0 on")
            }
            None if !shared => {
                format!("the CPUs {dedicated} are all of this machine's, and none is left to share")
            }
            None => return,
        };
        *dedicated = Default::default();
        self.machine.faults.set(Fault::new(
            "cpu",
            format!("{message}; all instances share all CPUs"),
            "Correct `dedicated` in `[cpu]` of the configuration.",
        ));
    }

    pub(super) fn note_network(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        let status = uplink.status().borrow().clone();
        if !status.applied {
            return;
        }
        if status.is_reachable() {
            self.machine.faults.clear("network");
            return;
        }
        let mut lines: Vec<String> = status.interfaces.iter().map(ToString::to_string).collect();
        lines.extend(status.problems);
        if lines.is_empty() {
            lines.push("there is no Ethernet interface".to_owned());
        }
        self.machine.faults.set(Fault::new(
            "network",
            lines.join("; "),
            "Check cable, switch and DHCP server, or configure addresses.",
        ));
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        let status = self
            .uplink
            .as_ref()
            .map(|uplink| uplink.status().borrow().clone());
        status
            .map(|status| {
                status
                    .addresses()
                    .map(|address| address.to_string())
                    .collect()
            })
            .unwrap_or_default()
    }

    pub(super) fn synchronise_clock(&mut self) {
        if let Some(told) = self.clock.as_mut().and_then(|asked| asked.now_or_never()) {
            self.clock = None;
            match told {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(line))) => self.tell(&line),
                Ok(Err(why)) => {
                    self.next_clock = Instant::now() + CLOCK_RETRY;
                    self.tell(&why);
                }
                Err(error) => self.tell(&chain(&error)),
            }
        }
        if Instant::now() < self.next_clock {
            return;
        }
        let Some(status) = self
            .uplink
            .as_ref()
            .map(|uplink| uplink.status().borrow().clone())
        else {
            return;
        };
        if !status.is_reachable() {
            return;
        }
        self.next_clock = Instant::now() + CLOCK_INTERVAL;
        let mut servers = self.machine.chosen.config.time.servers.clone();
        servers.extend(status.ntp.iter().map(ToString::to_string));
        if !servers.is_empty() {
            self.clock = Some(tokio::task::spawn_blocking(move || correct_clock(&servers)));
        }
    }
}

/// Asks the servers in turn, and corrects the clock as the first one says that answers. A line if it was set.
fn correct_clock(servers: &[String]) -> Result<Option<String>, String> {
    let mut why = Vec::new();
    for server in servers {
        let corrected =
            host::clock::ask(server).and_then(|offset| Ok((offset, host::clock::correct(offset)?)));
        match corrected {
            Ok((offset, Correction::Step)) => {
                return Ok(Some(format!(
                    "the clock was set by {offset:+.3} s, as {server} says"
                )));
            }
            Ok(_) => return Ok(None),
            Err(error) => why.push(chain(&error)),
        }
    }
    Err(why.join("; "))
}
