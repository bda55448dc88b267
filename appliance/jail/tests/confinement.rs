//! Spawns this binary into the jail and asks it what it sees from inside. Needs root.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jail::{Allow, Child, Exit, JailedCommand, Limits, OnViolation, Process};

const UID: u32 = 61_234;
const DEADLINE: Duration = Duration::from_secs(20);
/// The number under which children get the socket they report on.
const REPORT: i32 = 7;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    if args.get(1).is_some_and(|a| a == "jailed") {
        return inside(&args[2..]);
    }
    let cases: &[(&str, fn())] = &[
        ("sees_no_files", sees_no_files),
        ("has_no_network", has_no_network),
        ("is_a_plain_user", is_a_plain_user),
        (
            "has_exactly_the_listed_descriptors",
            has_exactly_the_listed_descriptors,
        ),
        (
            "renumbers_crossing_descriptors",
            renumbers_crossing_descriptors,
        ),
        ("limits_hold", limits_hold),
        (
            "a_forbidden_call_ends_the_process",
            a_forbidden_call_ends_the_process,
        ),
        (
            "a_forbidden_argument_ends_the_process",
            a_forbidden_argument_ends_the_process,
        ),
        (
            "a_forbidden_call_can_fail_instead",
            a_forbidden_call_can_fail_instead,
        ),
        (
            "threads_work_under_the_runtime_list",
            threads_work_under_the_runtime_list,
        ),
        (
            "exit_codes_and_signals_are_told",
            exit_codes_and_signals_are_told,
        ),
        (
            "adoption_tells_the_process_from_a_successor",
            adoption_tells_the_process_from_a_successor,
        ),
        (
            "an_unexecutable_file_leaves_nothing",
            an_unexecutable_file_leaves_nothing,
        ),
        ("bad_requests_are_refused", bad_requests_are_refused),
        ("joins_its_cgroup", joins_its_cgroup),
        (
            "confining_outside_the_jail_is_refused",
            confining_outside_the_jail_is_refused,
        ),
        ("spawn_is_cheap", spawn_is_cheap),
    ];
    let wanted: Vec<&String> = args[1..].iter().filter(|a| !a.starts_with('-')).collect();
    if args.iter().any(|a| a == "--list") {
        for (name, _) in cases {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, case) in cases {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let ok = catch_unwind(AssertUnwindSafe(case)).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        failed += u32::from(!ok);
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

// ---- inside the jail -------------------------------------------------------------------------------------------------

fn inside(args: &[String]) -> ExitCode {
    let confined =
        jail::confine_self().unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
    let arg = |n: usize| args.get(n).map_or("", String::as_str);
    match arg(0) {
        "files" => {
            // Landlock refuses even the list; without it the list is empty.
            let listed = fs::read_dir("/").map_or(0, Iterator::count);
            let made = File::create("/x").map_err(|e| e.raw_os_error());
            report(&format!(
                "{listed} {} {}",
                made.is_err(),
                File::open("/proc/self/exe").is_err()
            ));
        }
        "network" => {
            // An unconnected UDP socket to an outside address has no route in an empty namespace.
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("make a socket");
            let connected = socket.connect("192.0.2.1:9").map_err(|e| e.raw_os_error());
            let local = socket.connect("127.0.0.1:9").map_err(|e| e.raw_os_error());
            report(&format!("{connected:?} {local:?}"));
        }
        "user" => {
            // SAFETY: plain system calls without pointers; setuid must fail.
            let (uid, pid, back) = unsafe { (libc::getuid(), libc::getpid(), libc::setuid(0)) };
            // SAFETY: a plain system call without pointers.
            let namespace = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) };
            report(&format!(
                "{uid} {} {pid} {back} {}",
                confined.gid,
                namespace == 0 && fs::read_dir("/proc").is_ok()
            ));
        }
        "descriptors" => {
            let open: Vec<String> =
                // SAFETY: F_GETFD takes no pointer and is harmless on a closed number.
                (0..4096).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0).map(|fd| fd.to_string()).collect();
            report(&open.join(" "));
        }
        "read" => {
            let mut text = String::new();
            for number in [arg(1), arg(2)].map(|n| n.parse().expect("a number")) {
                // SAFETY: the parent passed both numbers; File takes them over once each.
                let mut file = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(number) };
                file.rewind().expect("rewind");
                file.read_to_string(&mut text).expect("read");
            }
            report(&text);
        }
        "limits" => {
            let mut seen = Vec::new();
            for which in [
                libc::RLIMIT_CORE,
                libc::RLIMIT_NOFILE,
                libc::RLIMIT_NPROC,
                libc::RLIMIT_MEMLOCK,
            ] {
                let mut limit = libc::rlimit {
                    rlim_cur: 1,
                    rlim_max: 2,
                };
                // SAFETY: `limit` lives through the call.
                assert_eq!(unsafe { libc::getrlimit(which, &raw mut limit) }, 0);
                assert_eq!(limit.rlim_cur, limit.rlim_max);
                seen.push(limit.rlim_cur.to_string());
            }
            report(&seen.join(" "));
        }
        "violate" => {
            jail::seccomp(&[Allow::Any(libc::SYS_write)], OnViolation::KillProcess)
                .expect("install");
            report("before");
            let _ = std::net::UdpSocket::bind("0.0.0.0:0");
            report("after");
        }
        "violate-argument" => {
            let only = Allow::When {
                number: libc::SYS_ioctl,
                argument: 1,
                values: &[0x1234],
            };
            jail::seccomp(
                &[Allow::Any(libc::SYS_write), only],
                OnViolation::KillProcess,
            )
            .expect("install");
            // SAFETY: an unknown request on a socket; no pointer is followed.
            unsafe { libc::ioctl(REPORT, 0x1234, 0) };
            report("allowed");
            // SAFETY: as above.
            unsafe { libc::ioctl(REPORT, 0x1235, 0) };
            report("forbidden");
        }
        "errno" => {
            jail::seccomp(&[Allow::Any(libc::SYS_write)], OnViolation::Errno(71)).expect("install");
            let refused = std::net::UdpSocket::bind("0.0.0.0:0").map_err(|e| e.raw_os_error());
            // SAFETY: asks for an executable page; the result is not used as memory.
            let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, 4, 0x22, -1, 0) };
            report(&format!("{:?} {}", refused.err(), page == libc::MAP_FAILED));
        }
        "threads" => {
            let thread = std::thread::spawn(|| {
                jail::seccomp(&[], OnViolation::KillProcess).expect("install");
                let lock = std::sync::Mutex::new(vec![0_u8; 1 << 20]);
                lock.lock().expect("lock").resize(8 << 20, 1);
                std::thread::sleep(Duration::from_millis(1));
                Instant::now().elapsed().as_secs()
            });
            report(&format!("{:?}", thread.join().ok()));
        }
        "exit" => return ExitCode::from(42),
        "hold" => {
            report("here");
            // Until the parent closes its end.
            // SAFETY: the parent passed this number; nobody else uses it here.
            let mut socket = unsafe { <UnixStream as std::os::fd::FromRawFd>::from_raw_fd(REPORT) };
            let _ = socket.read(&mut [0]);
        }
        other => panic!("no such case: {other}"),
    }
    ExitCode::SUCCESS
}

fn report(text: &str) {
    // SAFETY: writes a valid buffer to a descriptor that the parent passed.
    let written = unsafe { libc::write(REPORT, text.as_ptr().cast(), text.len()) };
    assert_eq!(usize::try_from(written), Ok(text.len()));
}

// ---- outside ---------------------------------------------------------------------------------------------------------

fn own_binary() -> File {
    File::open("/proc/self/exe").expect("open the own executable")
}

/// Runs a case to its end; what it reported and how it ended.
fn run(
    case: &str,
    extra: impl for<'a> FnOnce(JailedCommand<'a>) -> JailedCommand<'a>,
) -> (String, Exit) {
    let (child, mut socket) = start(case, extra);
    let mut text = String::new();
    socket
        .set_read_timeout(Some(DEADLINE))
        .expect("set a time-out");
    socket.read_to_string(&mut text).expect("read the report");
    let exit = child
        .wait(Some(DEADLINE))
        .expect("wait")
        .expect("the child ends in time");
    (text, exit)
}

fn start(
    case: &str,
    extra: impl for<'a> FnOnce(JailedCommand<'a>) -> JailedCommand<'a>,
) -> (Child, UnixStream) {
    let binary = own_binary();
    let (ours, theirs) = UnixStream::pair().expect("make a socket pair");
    let command = JailedCommand::new(binary.as_fd(), "jailed-test", UID, UID + 1)
        .and_then(|c| c.arg("jailed"))
        .and_then(|c| c.arg(case))
        .expect("build the command")
        .fd(raw(2), 2)
        .fd(theirs.as_fd(), REPORT);
    let child = jail::spawn(&extra(command))
        .unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
    (child, ours)
}

fn ok(case: &str) -> String {
    let (text, exit) = run(case, |c| c);
    assert_eq!(exit, Exit::Code(0));
    text
}

fn sees_no_files() {
    assert_eq!(ok("files"), "0 true true");
}

fn has_no_network() {
    let unreachable = format!("Err(Some({}))", libc::ENETUNREACH);
    assert_eq!(ok("network"), format!("{unreachable} {unreachable}"));
}

fn is_a_plain_user() {
    assert_eq!(ok("user"), format!("{UID} {} 1 -1 false", UID + 1));
}

fn has_exactly_the_listed_descriptors() {
    let inheritable = own_binary();
    // SAFETY: makes the descriptor inheritable, which must not matter.
    let set = unsafe { libc::fcntl(inheritable.as_raw_fd(), libc::F_SETFD, 0) };
    assert_eq!(set, 0);
    assert_eq!(ok("descriptors"), "0 1 2 7");
}

fn renumbers_crossing_descriptors() {
    let content = |text: &[u8]| {
        let mut file = tempfile::tempfile().expect("make a file");
        file.write_all(text).expect("write");
        file
    };
    let (first, second) = (content(b"first "), content(b"second"));
    // Each file takes the other's number.
    let (low, high) = (first.as_raw_fd(), second.as_raw_fd());
    let (text, exit) = run("read", move |c| {
        c.arg(&high.to_string())
            .and_then(|c| c.arg(&low.to_string()))
            .expect("arguments")
            .fd(raw(low), high)
            .fd(raw(high), low)
    });
    assert_eq!((text.as_str(), exit), ("first second", Exit::Code(0)));
}

fn raw(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the callers keep the number open for the length of the test.
    unsafe { BorrowedFd::borrow_raw(number) }
}

fn limits_hold() {
    let limits = Limits {
        open_files: 64,
        threads: 17,
        locked_bytes: 1 << 20,
    };
    let (text, _) = run("limits", |c| c.limits(limits));
    assert_eq!(text, "0 64 17 1048576");
}

fn a_forbidden_call_ends_the_process() {
    assert_eq!(
        run("violate", |c| c),
        ("before".into(), Exit::Signal(libc::SIGSYS))
    );
}

fn a_forbidden_argument_ends_the_process() {
    assert_eq!(
        run("violate-argument", |c| c),
        ("allowed".into(), Exit::Signal(libc::SIGSYS))
    );
}

fn a_forbidden_call_can_fail_instead() {
    assert_eq!(ok("errno"), "Some(Some(71)) true");
}

fn threads_work_under_the_runtime_list() {
    assert_eq!(ok("threads"), "Some(0)");
}

fn exit_codes_and_signals_are_told() {
    assert_eq!(run("exit", |c| c).1, Exit::Code(42));
    let (child, mut socket) = start("hold", |c| c);
    socket.read_exact(&mut [0; 4]).expect("the child is up");
    assert_eq!(child.try_wait().expect("look"), None);
    assert_eq!(
        child
            .wait(Some(Duration::from_millis(5)))
            .expect("wait a little"),
        None
    );
    child.kill().expect("kill");
    assert_eq!(
        child.wait(Some(DEADLINE)).expect("wait"),
        Some(Exit::Signal(libc::SIGKILL))
    );
    child.kill().expect("killing it again is no error");
}

fn adoption_tells_the_process_from_a_successor() {
    let (child, mut socket) = start("hold", |c| c);
    socket.read_exact(&mut [0; 4]).expect("the child is up");
    let started = child.started().expect("read").expect("it runs");
    let adopted = Process::adopt(child.pid(), Some(started))
        .expect("adopt")
        .expect("the same process");
    assert!(
        Process::adopt(child.pid(), Some(started + 1))
            .expect("adopt")
            .is_none()
    );
    assert_eq!(adopted.try_wait().expect("look"), None);
    drop(socket);
    assert_eq!(
        adopted.wait(Some(DEADLINE)).expect("wait"),
        Some(Exit::Code(0))
    );
    assert!(Process::adopt(child.pid(), None).expect("look").is_none());
    // A process that is not our child: pid 1. It can be watched but not reaped.
    let other = Process::adopt(1, None)
        .expect("adopt")
        .expect("there is a pid 1");
    assert_eq!(other.try_wait().expect("look"), None);
}

fn an_unexecutable_file_leaves_nothing() {
    let file = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(file.path(), "no program").expect("write");
    let reopened = File::open(file.path()).expect("open");
    let command = JailedCommand::new(reopened.as_fd(), "x", UID, UID).expect("build");
    let error = jail::spawn(&command).expect_err("it cannot be executed");
    assert_eq!(error.to_string(), "jail: execute the child's program");
    // SAFETY: no pointers are followed; asks only whether any child is left.
    let left = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(left, -1, "a child was left behind");
}

fn bad_requests_are_refused() {
    let binary = own_binary();
    let command = || JailedCommand::new(binary.as_fd(), "x", UID, UID).expect("build");
    let refused = |c: JailedCommand<'_>| jail::spawn(&c).expect_err("refused").to_string();
    assert!(
        JailedCommand::new(binary.as_fd(), "x", 0, 1)
            .expect_err("root")
            .to_string()
            .contains("must not be root")
    );
    assert!(
        command()
            .arg("a\0b")
            .expect_err("NUL")
            .to_string()
            .contains("NUL")
    );
    assert!(refused(command().fd(binary.as_fd(), 5000)).contains("5000 is not within 0–1023"));
    assert!(
        refused(command().fd(binary.as_fd(), 3).fd(binary.as_fd(), 3)).contains("3 is given twice")
    );
    assert!(
        refused(command().cgroup("/nonexistent".as_ref())).contains("/nonexistent/cgroup.procs")
    );
    let filter = jail::Filter::compile(
        &[&[Allow::When {
            number: 1,
            argument: 6,
            values: &[1],
        }]],
        OnViolation::Log,
    );
    assert!(filter.is_err());
    let filter = jail::Filter::compile(
        &[&[Allow::When {
            number: 1,
            argument: 0,
            values: &[],
        }]],
        OnViolation::Log,
    );
    assert!(
        filter
            .expect_err("empty")
            .to_string()
            .contains("empty list")
    );
}

fn joins_its_cgroup() {
    let base = [
        "/sys/fs/cgroup/pids",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
    ];
    let Some(base) = base
        .iter()
        .find(|b| fs::metadata(format!("{b}/cgroup.procs")).is_ok())
    else {
        println!("no cgroup hierarchy is mounted here: nothing to join");
        return;
    };
    struct Dir(std::path::PathBuf);
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }
    let dir = Dir(format!("{base}/jail-test-{}", std::process::id()).into());
    fs::create_dir(&dir.0).expect("make a cgroup");
    let path = dir.0.clone();
    let (child, mut socket) = start("hold", move |c| c.cgroup(&path));
    socket.read_exact(&mut [0; 4]).expect("the child is up");
    let members = fs::read_to_string(dir.0.join("cgroup.procs")).expect("read the members");
    assert_eq!(members.trim(), child.pid().to_string());
    child.kill().expect("kill");
    child.wait(Some(DEADLINE)).expect("wait").expect("gone");
}

fn confining_outside_the_jail_is_refused() {
    let error = jail::confine_self().expect_err("no identity");
    assert!(
        error.to_string().contains("not started by jail::spawn"),
        "{error}"
    );
}

/// Prints the cost and holds it under a bound that only a broken design would miss.
fn spawn_is_cheap() {
    const ROUNDS: u32 = 50;
    let cpu = || {
        let mut total = Duration::ZERO;
        for who in [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN] {
            // SAFETY: an all-zero rusage is valid and lives through the call.
            let usage = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(who, &raw mut usage);
                usage
            };
            for time in [usage.ru_utime, usage.ru_stime] {
                total += Duration::from_micros(
                    u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap_or(0),
                );
            }
        }
        total
    };
    let (before, start_at) = (cpu(), Instant::now());
    for _ in 0..ROUNDS {
        assert_eq!(run("exit", |c| c).1, Exit::Code(42));
    }
    let (used, wall) = ((cpu() - before) / ROUNDS, start_at.elapsed() / ROUNDS);
    println!("spawn, exec, confine, exit, reap: {used:?} CPU, {wall:?} wall each");
    assert!(
        used < Duration::from_millis(20),
        "{used:?} of CPU for one spawn"
    );
}
