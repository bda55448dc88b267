//! Bringing the machine up, step by step. Each step does what it can; what it cannot is a fault with what to do about it.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use boot_disk::{BootDisk, Disk, DiskError, Esp, HostRecord, Identity, SlotEntry, StateStore};
use host::{
    efi::{self, BootInfo},
    modules::Modules,
};
use host_config::{Chosen, command_line};
use image_format::{Release, Slot, SlotFile, layout};
use tpm::Tpm;

use crate::{
    Fault, RUN, config,
    fault::{self, Faults, chain},
    identity,
    records::Records,
    verdict::{self, Boot},
};

/// How long a disk that the boot loader saw may take to appear.
const DISK_PATIENCE: Duration = Duration::from_secs(20);
/// Where the first process mounts the EFI system partition.
const ESP_AT: &str = "/run/ashlar/esp-init";

/// The machine, as the boot left it.
pub(crate) struct Machine {
    pub release: Release,
    pub boot: BootInfo,
    pub boot_disk: Option<BootDisk>,
    pub records: Records,
    pub slots: Vec<SlotEntry>,
    pub chosen: Chosen,
    /// Where to fetch the configuration, if nothing else brought one.
    pub config_url: Option<String>,
    /// The digest of what was written when flashing.
    pub flashed: Option<String>,
    pub faults: Faults,
    pub modules: Option<Modules>,
    pub identity: Identity,
    /// The enrolment token, known only in the boot in which it was made.
    pub token: Option<String>,
    pub fingerprint: String,
    /// The mounted data partition's device.
    pub data: Option<PathBuf>,
    pub measurements: BTreeMap<u8, String>,
    pub verdict: Boot,
}

/// Boots. `tell` hears of each step.
pub(crate) fn boot(tell: &dyn Fn(&str)) -> Machine {
    let mut faults = Faults::default();
    match host::mounts::kernel_file_systems() {
        Ok(failed) => failed.iter().for_each(|error| tell(&chain(error))),
        Err(error) => faults.set_error(
            "kernel",
            &error,
            "This image does not fit the machine: flash another variant.",
        ),
    }
    let _ = fs::create_dir_all(RUN);
    let floor = fs::read_to_string(Path::new("/").join(layout::CLOCK_FLOOR))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(Ok(true)) = floor.map(host::clock::at_least) {
        tell("the clock was before this image was made; it is set by the network's time servers");
    }
    let modules = load_modules(&mut faults, tell);
    let _ = host::mounts::efi_variables();
    let boot = efi::boot_info();
    let command_line = command_line::parse(&host::facts::command_line());
    for problem in &command_line.problems {
        faults.set(Fault::new(
            "command line",
            problem,
            "Correct the boot loader's entry or the network boot script.",
        ));
    }
    let release = release(&mut faults);
    let refused = host::settings::harden();
    refused.iter().for_each(|error| tell(&chain(error)));
    if let Err(error) = host::settings::cgroup_controllers() {
        tell(&chain(&error));
    }

    let (disks, boot_disk) = find_boot_disk(&boot, &mut faults);
    tell(&format!(
        "disks: {}",
        disks
            .iter()
            .map(Disk::described)
            .collect::<Vec<_>>()
            .join(", ")
    ));
    let mut records = open_records(&disks, boot_disk.as_ref(), &mut faults);
    let (slots, flashed) = read_esp(boot_disk.as_ref(), &mut faults);
    let volume = config::on_volume(
        &disks,
        boot_disk.as_ref().map(|boot| boot.disk.path.as_path()),
        layout::CONFIG_VOLUME_LABEL,
        layout::CONFIG_VOLUME_FILE,
        host_config::MAX_BYTES,
    );
    let candidates = config::candidates(
        records.record(),
        flashed.clone(),
        volume,
        command_line.config,
    );
    let chosen = host_config::choose(&candidates);

    let mut machine = Machine {
        verdict: judge(&boot, records.record(), &slots),
        identity: Identity {
            host_id: String::new(),
            key_pem: String::new(),
            certificate_pem: String::new(),
            api_token: String::new(),
            enrolment_sha256: None,
            unknown: BTreeMap::default(),
        },
        release,
        boot,
        boot_disk,
        slots,
        chosen,
        config_url: command_line.config_url,
        flashed,
        faults,
        modules,
        token: None,
        fingerprint: String::new(),
        data: None,
        measurements: measurements(tell),
        records: {
            let counted = records.update(|record| record.boots += 1);
            drop(counted);
            records
        },
    };
    machine.guarded(Machine::note_configuration);
    machine.guarded(|machine| machine.mix_entropy(tell));
    machine.guarded(|machine| machine.open_data(&disks, None, tell));
    machine.guarded(|machine| machine.know_oneself(tell));
    machine.guarded(|machine| machine.settle_update(tell));
    machine
}

impl Machine {
    /// Takes a step of the boot. A mistake of ours in it is a fault, and the other steps follow.
    fn guarded(&mut self, step: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| step(self))) {
            self.faults.set(fault::of_panic(panic.as_ref()));
        }
    }

    /// The slot that runs, if it was one.
    pub fn booted(&self) -> Option<Slot> {
        let file: SlotFile = self.boot.entry.as_ref()?.parse().ok()?;
        Some(file.slot)
    }

    /// The host's name.
    pub fn hostname(&self) -> String {
        match &self.chosen.config.hostname {
            Some(name) => name.clone(),
            None => format!(
                "ashlar-{}",
                self.identity.host_id.rsplit('-').next().unwrap_or_default()
            ),
        }
    }

    /// Tells of what is wrong with the configuration, and remembers it if nothing is.
    pub fn note_configuration(&mut self) {
        match &self.chosen.error {
            Some(error) => {
                let instead = format!("{error}\nin force instead: {}", self.chosen.source);
                self.faults.set(Fault::new(
                    "configuration",
                    instead,
                    "Push a corrected one: `ashlar host configuration push FILE`.",
                ));
            }
            None => {
                self.faults.clear("configuration");
                let text = self.chosen.text.clone();
                if self.records.record().configuration.last_good != text {
                    self.keep("remember the configuration", |record| {
                        record.configuration.last_good = text
                    });
                }
            }
        }
    }

    /// Changes the record; a failure is a fault.
    pub fn keep(&mut self, doing: &str, change: impl FnOnce(&mut HostRecord)) -> bool {
        match self.records.update(change) {
            Ok(()) => {
                // What is only in memory is still a fault.
                if matches!(self.records, Records::Kept(_)) {
                    self.faults.clear("state");
                }
                true
            }
            Err(error) => {
                self.faults.set(Fault::new(
                    "state",
                    format!("cannot {doing}: {}", chain(&error)),
                    error.next_step(),
                ));
                false
            }
        }
    }

    /// Does something with the EFI system partition, mounted for that long.
    pub fn with_esp<T>(
        &mut self,
        work: impl FnOnce(&Esp) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let device = self.boot_disk.as_ref().map(|boot| boot.esp.path.clone());
        let device = device.ok_or_else(DiskError::no_slots)?;
        let esp = Esp::mount(&device, Path::new(ESP_AT))?;
        let done = work(&esp)?;
        self.slots = esp.slots()?;
        Ok(done)
    }

    fn mix_entropy(&mut self, tell: &dyn Fn(&str)) {
        let seed = self
            .records
            .record()
            .entropy_seed
            .as_ref()
            .and_then(|text| hex::decode(text).ok());
        if let Some(Err(error)) = seed.map(|seed| host::entropy::mix_in(&seed)) {
            tell(&chain(&error));
        }
        // Used once: a new one before anything else is made of it.
        match host::entropy::new_seed() {
            Ok(seed) => {
                self.keep("keep a random seed", |record| {
                    record.entropy_seed = Some(hex::encode(seed))
                });
            }
            Err(error) => tell(&chain(&error)),
        }
    }

    /// Forgets who the host is, how it was configured and which data partition is its own: as before its first boot. Instances and
    /// disks stay on their partition, which is not claimed any more.
    pub fn forget_state(&self) -> Result<(), DiskError> {
        let own = self.boot_disk.as_ref().map(|boot| boot.state.path.clone());
        match own.or_else(|| Disk::all().iter().find_map(state_of)) {
            Some(partition) => StateStore::<fs::File>::reset(&partition),
            // There is nothing to forget.
            None => Ok(()),
        }
    }

    /// Where the record could not be kept yet, it is kept on the disk of the data, if there is a place.
    pub(crate) fn records_beside(&mut self, data: &Path) {
        let Records::Forgotten(known) = &self.records else {
            return;
        };
        let beside = Disk::all().into_iter().find(|disk| {
            disk.partitions
                .iter()
                .any(|partition| partition.path == data)
        });
        let Some(partition) = beside.as_ref().and_then(state_of) else {
            return;
        };
        if let Ok(mut kept) = Records::open(&partition) {
            let known = known.clone();
            if kept.record().identity.is_none() && kept.update(|record| *record = *known).is_err() {
                return;
            }
            self.records = kept;
            self.faults.clear("state");
        }
    }

    fn know_oneself(&mut self, tell: &dyn Fn(&str)) {
        if let Some(identity) = self.records.record().identity.clone() {
            self.identity = identity;
        } else {
            tell("first boot: making the host's key and certificate");
            let mut names = self.chosen.config.api.names.clone();
            names.extend(self.chosen.config.hostname.clone());
            match identity::make(&names) {
                Ok((identity, token)) => {
                    self.identity = identity.clone();
                    self.token = Some(token);
                    self.keep("keep the host's identity", |record| {
                        record.identity = Some(identity)
                    });
                }
                Err(error) => {
                    self.faults.set(Fault::because(
                        "identity",
                        &error,
                        "Reboot; if it happens again, report it.",
                    ));
                }
            }
        }
        self.fingerprint =
            identity::fingerprint(&self.identity.certificate_pem).unwrap_or_default();
        let name = self.hostname();
        if let Err(error) = host::settings::host_name(&name) {
            tell(&chain(&error));
        }
    }

    /// Writes down what became of an update that is over.
    fn settle_update(&mut self, tell: &dyn Fn(&str)) {
        let Boot::FellBack(reason) = self.verdict.clone() else {
            return;
        };
        tell(&format!(
            "the update failed, and this is the slot from before: {reason}"
        ));
        if let Some(slot) = self
            .records
            .record()
            .update
            .as_ref()
            .map(|update| update.slot)
            && let Err(error) = self.with_esp(|esp| esp.mark_bad(slot))
        {
            tell(&chain(&error));
        }
        let now = now();
        self.keep("write down what became of the update", |record| {
            if let Some(update) = &mut record.update {
                update.phase = boot_disk::UpdatePhase::Failed;
                update.reason = Some(reason);
                update.ended = Some(now);
            }
        });
    }
}

/// The time, as the record has it.
pub(crate) fn now() -> types::Timestamp {
    types::Timestamp::from_system_time(std::time::SystemTime::now())
}

fn load_modules(faults: &mut Faults, tell: &dyn Fn(&str)) -> Option<Modules> {
    let mut modules = match Modules::open() {
        Ok(modules) => modules,
        Err(error) => {
            faults.set_error("modules", &error, "This image is damaged: flash it again.");
            return None;
        }
    };
    let always = fs::read_to_string(Path::new("/").join(layout::MODULES)).unwrap_or_default();
    for error in modules.load_for_devices() {
        tell(&chain(&error));
    }
    for error in always.lines().filter_map(|name| modules.load(name).err()) {
        tell(&chain(&error));
    }
    Some(modules)
}

fn release(faults: &mut Faults) -> Release {
    let path = Path::new("/").join(layout::OS_RELEASE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    Release::parse(&text).unwrap_or_else(|error| {
        faults.set_error("image", &error, "This image is damaged: flash it again.");
        Release {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            variant: "unknown"
                .parse()
                .unwrap_or_else(|_| unreachable!("`unknown` is a variant's name")),
            security_version: 0,
            state_schema: 1,
        }
    })
}

/// The disks, once that from which the host booted is among them.
fn find_boot_disk(boot: &BootInfo, faults: &mut Faults) -> (Vec<Disk>, Option<BootDisk>) {
    let deadline = Instant::now() + DISK_PATIENCE;
    let slot_booted = boot
        .entry
        .as_ref()
        .is_some_and(|entry| entry.parse::<SlotFile>().is_ok());
    loop {
        let disks = Disk::all();
        let found = BootDisk::find(&disks, boot.partition.as_deref());
        match found {
            Ok(None) if slot_booted && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(100))
            }
            Ok(found) => return (disks, found),
            Err(error) => {
                faults.set(Fault::from(&error));
                return (disks, None);
            }
        }
    }
}

fn open_records(disks: &[Disk], boot_disk: Option<&BootDisk>, faults: &mut Faults) -> Records {
    let partition = match boot_disk {
        Some(boot) => Some(boot.state.path.clone()),
        None => disks.iter().find_map(state_of),
    };
    let Some(partition) = partition else {
        faults.set(Fault::new(
            "state",
            "there is no state partition: the host's identity is gone with the next reboot",
            "Flash the image onto a disk, or add an empty disk and reboot.",
        ));
        return Records::Forgotten(Box::default());
    };
    match StateStore::open(&partition) {
        Ok(store) => Records::Kept(Box::new(store)),
        Err(error) => {
            faults.set(Fault::new("state", chain(&error), error.next_step()));
            Records::Forgotten(Box::default())
        }
    }
}

fn state_of(disk: &Disk) -> Option<PathBuf> {
    let found = disk
        .partitions
        .iter()
        .find(|partition| partition.type_guid == layout::STATE.type_guid);
    found.map(|partition| partition.path.clone())
}

fn read_esp(boot_disk: Option<&BootDisk>, faults: &mut Faults) -> (Vec<SlotEntry>, Option<String>) {
    let Some(boot) = boot_disk else {
        return (Vec::new(), None);
    };
    let read = || -> Result<_, DiskError> {
        let esp = Esp::mount(&boot.esp.path, Path::new(ESP_AT))?;
        Ok((esp.slots()?, esp.configuration()?))
    };
    read().unwrap_or_else(|error| {
        faults.set(Fault::new(
            "boot partition",
            chain(&error),
            error.next_step(),
        ));
        (Vec::new(), None)
    })
}

fn judge(boot: &BootInfo, record: &HostRecord, slots: &[SlotEntry]) -> Boot {
    let panic = host::facts::last_panic();
    let booted = boot
        .entry
        .as_ref()
        .and_then(|entry| entry.parse::<SlotFile>().ok())
        .map(|file| file.slot);
    let update = record.update.as_ref();
    let tried = update.and_then(|update| {
        let entry = slots.iter().find(|entry| entry.file.slot == update.slot);
        entry.map(|entry| entry.file.state())
    });
    verdict::at_boot(update, booted, tried, panic.as_deref())
}

fn measurements(tell: &dyn Fn(&str)) -> BTreeMap<u8, String> {
    let Ok(mut tpm) = Tpm::open() else {
        return BTreeMap::new();
    };
    match tpm.pcrs() {
        Ok(values) => {
            let values: BTreeMap<u8, String> = values
                .into_iter()
                .map(|(register, value)| (register, hex::encode(value)))
                .collect();
            for register in [0, 4, 7, 11] {
                if let Some(value) = values.get(&register) {
                    tell(&format!("measured at boot: PCR {register} = {value}"));
                }
            }
            values
        }
        Err(error) => {
            tell(&chain(&error));
            BTreeMap::new()
        }
    }
}

impl Faults {
    fn set_error(&mut self, what: &str, error: &dyn std::error::Error, next_step: &str) {
        self.set(Fault::because(what, error, next_step));
    }
}
