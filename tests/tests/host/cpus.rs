//! What instances get of the host's CPUs, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::site::{Site, Started, text};

/// A guest that is kept busy is looked at from outside this long.
const BUSY: Duration = Duration::from_secs(2);
/// The unit in which the kernel counts a process's time (proc(5), `/proc/pid/stat`; USER_HZ is 100 on x86-64).
const TICK: Duration = Duration::from_millis(10);

#[test]
fn a_burstable_instance_without_credits_gets_its_baseline_and_no_more() -> Result<()> {
    let site = Site::new(&["--launch-credits", "0"])?;
    // One virtual CPU of which 20 % can be used for ever.
    let burstable = site.run("info", &["--type", "ecs.t6-c1m1.large"])?;
    let credits = &site.show(&burstable)?["cpu_credits"];
    ensure!(
        credits["throttled"] == true && credits["baseline_percent"] == 20,
        "{credits}"
    );
    let (used, passed) = spin(&site, &burstable)?;
    // The quota is for 100 ms each; one of them may lie before the first look.
    ensure!(
        used <= passed / 5 + Duration::from_millis(40),
        "it used {used:?} of {passed:?} at a baseline of 20 %"
    );
    ensure!(
        throttled(&site, &burstable)? > 0,
        "the kernel never held it back"
    );

    let other = site.run("info", &[])?;
    ensure!(
        site.show(&other)?["cpu_credits"].is_null(),
        "credits without a burstable type"
    );
    spin(&site, &other)?;
    ensure!(
        throttled(&site, &other)? == 0,
        "an instance without a quota was held back"
    );
    site.host.cli(&["rm", "--force", "--wait", &other.id])?;
    site.host.cli(&["rm", "--force", "--wait", &burstable.id])?;
    site.clean()
}

#[test]
fn enterprise_families_have_cores_of_their_own_until_the_operator_takes_them_back() -> Result<()> {
    let cores = cores()?;
    let all = cores.concat();
    let Some((own, rest)) = cores.split_last().filter(|(_, rest)| !rest.is_empty()) else {
        eprintln!("not tried: this machine has one core, and none can be dedicated");
        return Ok(());
    };
    let (dedicated, rest) = (list(own), rest.concat());
    let mut site = Site::new(&["--dedicated-cpus", &dedicated])?;
    let vcpus = own.len().to_string();
    let enterprise = ["--type", "ecs.g6.large", "--vcpus", &vcpus];
    let alone = site.run("info", &enterprise)?;
    let shared = site.run("info", &[])?;
    ensure!(allowed(&site, &alone)? == *own, "{}", site.show(&alone)?);
    ensure!(allowed(&site, &shared)? == rest, "{}", site.show(&shared)?);
    ensure!(
        text(&site.show(&alone)?, "cpus")? == dedicated,
        "{}",
        site.show(&alone)?
    );
    // All are given; there is room only among the others.
    let mut wanted = vec!["run", "probe", "--memory", "32M"];
    wanted.extend(enterprise);
    site.refused_with_advice(&wanted, "OperationDenied.NoStock", &["vcpus"])?;

    // Another daemon, by which all share all: nobody is kept anywhere, and both guests run on.
    site.host.stop();
    site.host.set_options(&[]);
    site.host.start()?;
    crate::site::poll("both run on all CPUs", || {
        let free = allowed(&site, &alone)? == all && allowed(&site, &shared)? == all;
        Ok(free.then_some(()))
    })?;
    site.tell(&alone, "cpus")?;
    site.host.cli(&["rm", "--force", "--wait", &alone.id])?;
    site.host.cli(&["rm", "--force", "--wait", &shared.id])?;
    site.clean()
}

#[test]
fn a_daemon_that_ends_leaves_no_control_group_behind() -> Result<()> {
    let mut site = Site::new(&[])?;
    let instance = site.run("info", &[])?;
    let group = group(&site, &instance)?;
    let parent = group.parent().context("a group in no parent")?.to_owned();
    site.host.stop();
    let left: Vec<PathBuf> = fs::read_dir(&parent)?
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()))
        .collect();
    ensure!(
        left == [group],
        "a group without a machine is left: {left:?}"
    );
    site.host.start()?;
    site.host.cli(&["rm", "--force", "--wait", &instance.id])?;
    site.host.stop();
    ensure!(!parent.exists(), "{} is left", parent.display());
    Ok(())
}

/// Keeps a guest busy: the CPU time that its process used, and the time that passed.
fn spin(site: &Site, instance: &Started) -> Result<(Duration, Duration)> {
    let (start, before) = (Instant::now(), used(site, instance)?);
    site.tell(instance, &format!("spin {}ms", BUSY.as_millis()))?;
    Ok((used(site, instance)? - before, start.elapsed()))
}

/// The CPU time of an instance's process.
fn used(site: &Site, instance: &Started) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", site.vmm_pid(instance)?))?;
    // What follows the name begins with the third field; utime is the 14th and has the guest's time in it.
    let (_, fields) = stat.rsplit_once(") ").context("no process's stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |at: usize| -> Result<u32> { Ok(fields.get(at).context("too short")?.parse()?) };
    Ok(TICK * (ticks(11)? + ticks(12)?))
}

/// How often the kernel held an instance back, because its quota was used up.
fn throttled(site: &Site, instance: &Started) -> Result<u64> {
    let stat = fs::read_to_string(group(site, instance)?.join("cpu.stat"))?;
    let counts: BTreeMap<&str, &str> = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    Ok(counts
        .get("nr_throttled")
        .context("it is not counted")?
        .parse()?)
}

/// The control group by whose cpu controller an instance is limited.
fn group(site: &Site, instance: &Started) -> Result<PathBuf> {
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", site.vmm_pid(instance)?))?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    // v1 names its controllers (cgroups(7), `/proc/pid/cgroup`); v2 has one line without any.
    let has = |names: &str, name: &str| names.split(',').any(|one| one == name);
    let in_v1 = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let path = fields
            .next()
            .filter(|names| has(names, "cpu"))
            .and(fields.next())?;
        Some((path, "cgroup"))
    });
    let in_v2 = || {
        Some((
            cgroups.lines().find_map(|line| line.strip_prefix("0::"))?,
            "cgroup2",
        ))
    };
    let (path, kind) = in_v1.or_else(in_v2).context("it is in no control group")?;
    let root = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let right = fields.get(2) == Some(&kind) && (kind == "cgroup2" || has(fields[3], "cpu"));
        right.then(|| PathBuf::from(fields[1]))
    });
    Ok(root
        .context("no control groups are mounted")?
        .join(path.trim_start_matches('/')))
}

/// The CPUs that an instance's process may run on (proc(5), `/proc/pid/status`).
fn allowed(site: &Site, instance: &Started) -> Result<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{}/status", site.vmm_pid(instance)?))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cpus(line.context("the kernel does not say")?)
}

/// The CPUs of each core of this machine.
fn cores() -> Result<Vec<Vec<u32>>> {
    let mut cores = Vec::new();
    for cpu in cpus(&fs::read_to_string("/sys/devices/system/cpu/online")?)? {
        let siblings = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let core = cpus(&fs::read_to_string(siblings)?)?;
        if !cores.contains(&core) {
            cores.push(core);
        }
    }
    Ok(cores)
}

fn cpus(list: &str) -> Result<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u32>()?..=last.parse()?);
    }
    Ok(cpus)
}

/// Neighbours as a range, as the host writes them.
fn list(cpus: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let shown = parts.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}
