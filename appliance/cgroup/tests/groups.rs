//! Groups in a folder that looks like a hierarchy, and on the machine itself.

use cgroup::{Group, Groups, Hierarchy, Version};
use std::{
    fs,
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// In a plain folder files are no kernel's: they are made by whoever writes them, and in the way when a folder goes.
fn emptied(group: &Group) {
    for directory in group.directories() {
        for entry in fs::read_dir(directory).unwrap() {
            let _ = fs::remove_file(entry.unwrap().path());
        }
    }
}

#[test]
fn v2_limits_are_written_as_the_kernel_reads_them() {
    let root = tempfile::tempdir().unwrap();
    let hierarchy = Hierarchy::V2 {
        root: root.path().to_owned(),
    };
    // An empty folder takes everything but the removal of a parent with files in it, which nobody insists on.
    let groups = Groups::open(hierarchy, "ash", 800).unwrap();
    assert_eq!(groups.version(), Version::V2);
    let group = groups.make("vmm-1").unwrap();
    assert_eq!(groups.make("vmm-1").unwrap(), group, "it is there already");
    assert_eq!(groups.list().unwrap(), ["vmm-1"]);
    let directory = root.path().join("ash/vmm-1");
    assert_eq!(group.directories(), std::slice::from_ref(&directory));
    let parent = root.path().join("ash");
    assert_eq!(text(&parent.join("cgroup.subtree_control")), "+cpuset");
    assert_eq!(text(&parent.join("cpu.weight")), "800");

    group.set_quota(Some(Duration::from_millis(40))).unwrap();
    assert_eq!(text(&directory.join("cpu.max")), "40000 100000");
    group.set_quota(None).unwrap();
    assert_eq!(text(&directory.join("cpu.max")), "max 100000");
    group.set_weight(20_000).unwrap();
    assert_eq!(text(&directory.join("cpu.weight")), "10000");
    group
        .set_cpus(&"2-3".parse().unwrap(), &"0".parse().unwrap())
        .unwrap();
    assert_eq!(text(&directory.join("cpuset.cpus")), "2-3");
    assert_eq!(text(&directory.join("cpuset.mems")), "0");

    let error = group.used().unwrap_err().to_string();
    assert!(error.contains("cpu.stat"), "{error}");
    fs::write(directory.join("cpu.stat"), "usage_usec 1500\nuser_usec 9\n").unwrap();
    assert_eq!(group.used().unwrap(), Duration::from_micros(1500));
    fs::write(directory.join("cpu.stat"), "nonsense").unwrap();
    assert!(group.used().unwrap_err().to_string().contains("nonsense"));

    assert!(groups.remove("vmm-1").is_err(), "something is in it");
    emptied(&group);
    groups.remove("vmm-1").unwrap();
    groups.remove("vmm-1").unwrap();
    assert_eq!(groups.list().unwrap(), Vec::<String>::new());
}

#[test]
fn v1_has_a_folder_for_each_controller() {
    let root = tempfile::tempdir().unwrap();
    let mount = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (both, cpuset) = (mount("cpu,cpuacct"), mount("cpuset"));
    fs::write(cpuset.join("cpuset.cpus"), "0-7\n").unwrap();
    fs::write(cpuset.join("cpuset.mems"), "0-1\n").unwrap();
    let hierarchy = |cpuset| Hierarchy::V1 {
        cpu: both.clone(),
        cpuacct: both.clone(),
        cpuset,
    };
    let without = Groups::open(hierarchy(None), "ash", 400).unwrap();
    let group = without.make("a").unwrap();
    let all = "0".parse().unwrap();
    let error = group.set_cpus(&all, &all).unwrap_err().to_string();
    assert!(
        error.contains("cpuset controller is not mounted"),
        "{error}"
    );
    assert_eq!(text(&both.join("ash/cpu.shares")), "4096");
    group.set_quota(Some(Duration::from_millis(60))).unwrap();
    assert_eq!(text(&both.join("ash/a/cpu.cfs_quota_us")), "60000");
    assert_eq!(text(&both.join("ash/a/cpu.cfs_period_us")), "100000");
    group.set_quota(None).unwrap();
    assert_eq!(text(&both.join("ash/a/cpu.cfs_quota_us")), "-1");
    fs::write(both.join("ash/a/cpuacct.usage"), "2000000\n").unwrap();
    assert_eq!(group.used().unwrap(), Duration::from_millis(2));

    // With cpuset a new group begins with all CPUs: before that nothing may enter it.
    let with = hierarchy(Some(cpuset.clone()));
    let error = Groups::open(with, "ash", 400).unwrap_err().to_string();
    assert!(
        error.contains("remove"),
        "plain files are in the way of the probe: {error}"
    );
    assert_eq!(text(&cpuset.join("ash/probe/cpuset.cpus")), "0-7");
    assert_eq!(text(&cpuset.join("ash/probe/cpuset.mems")), "0-1");
}

#[test]
fn what_cannot_be_made_is_named() {
    let hierarchy = Hierarchy::V2 {
        root: "/nonexistent".into(),
    };
    let error = Groups::open(hierarchy, "ash", 100).unwrap_err().to_string();
    assert_eq!(error, "cannot make the control group /nonexistent/ash");
}

/// A process that uses all of one CPU, in a group from its first instruction on.
fn busy(group: &Group) -> Child {
    let enter: Vec<String> = group
        .directories()
        .iter()
        .map(|directory| format!("echo $$ > {}/cgroup.procs", directory.display()))
        .collect();
    let script = format!("{} && while :; do :; done", enter.join(" && "));
    Command::new("sh").args(["-c", &script]).spawn().unwrap()
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never came to hold: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_kernel_does_what_it_is_told() {
    let hierarchy = match Hierarchy::find() {
        Ok(hierarchy) => hierarchy,
        Err(error) => return println!("skipped: {error}"),
    };
    let name = format!("ashlar-test-{}", std::process::id());
    let groups = match Groups::open(hierarchy, &name, 400) {
        Ok(groups) => groups,
        Err(error) => {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            return println!("skipped: {error}: {}", why.unwrap_or_default());
        }
    };
    println!("on {:?}", groups.version());
    assert_eq!(groups.list().unwrap(), Vec::<String>::new());
    assert!(!groups.group("busy").exists());
    let group = groups.make("busy").unwrap();
    group.set_weight(200).unwrap();
    group.set_quota(Some(Duration::from_millis(20))).unwrap();
    let cpus = cgroup::topology(Path::new("/sys")).unwrap();
    let first: cpu::CpuSet = cpus.cores()[0].cpus.clone();
    let pinned = group.set_cpus(&first, &cpus.nodes_of(&first));
    let process = Ends(busy(&group));
    until("the process is in its group", || {
        group.processes().unwrap().contains(&process.0.id())
    });
    if pinned.is_ok() {
        let status = text(Path::new(&format!("/proc/{}/status", process.0.id())));
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.map(str::trim), Some(first.to_string().as_str()));
    }
    assert!(groups.remove("busy").is_err(), "a process is in it");
    groups.sweep().unwrap();
    assert!(group.exists(), "nor is it swept away");

    // A fifth of one CPU is what it may have: far less than the whole it wants, whatever else this machine does.
    let (from, begin) = (group.used().unwrap(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let (used, passed) = (group.used().unwrap() - from, begin.elapsed());
    assert!(used <= passed.mul_f64(0.35), "{used:?} of {passed:?}");
    // Without the limit it goes on; with the machine to itself it has all of a CPU, and more than a fifth at any rate.
    group.set_quota(None).unwrap();
    let before = group.used().unwrap();
    until("it uses what it wants", || {
        group.used().unwrap() - before > Duration::from_millis(300)
    });

    drop(process);
    until("the group goes when nobody is in it", || {
        groups.remove("busy").is_ok()
    });
    assert!(!group.exists());
    let left = groups.group(".").directories();
    assert!(
        left.iter().all(|parent| !parent.exists()),
        "nor is the parent left"
    );
}
