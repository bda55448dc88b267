//! A tap in a network namespace of its own, with a packet socket as the wire's other end. Needs the right to make one.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio::feature;
use virtio::net::{NetConfig, RX_QUEUE, TX_QUEUE};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::devices::tap::Tap;
use crate::devices::testing::{DATA, Driver, memory, unconfined, until};

const TUNSETIFF: libc::c_ulong = 0x4004_54CA;
const NAME: &[u8] = b"tap-under-test";
const HEADER: usize = 12;

/// An interface request with our name and these flags.
fn request(flags: libc::c_int) -> [u8; 40] {
    let mut request = [0; 40];
    request[..NAME.len()].copy_from_slice(NAME);
    request[16..18].copy_from_slice(&u16::try_from(flags).expect("small").to_le_bytes());
    request
}

fn owned(fd: libc::c_int) -> OwnedFd {
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call that made it has just returned it to us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn ioctl(fd: &OwnedFd, number: libc::c_ulong, request: &mut [u8; 40]) {
    // SAFETY: both requests used here read or write one `struct ifreq` of 40 bytes.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number, request.as_mut_ptr()) };
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
}

fn tap(flags: libc::c_int) -> OwnedFd {
    let tap = OwnedFd::from(
        std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .expect("tun"),
    );
    ioctl(&tap, TUNSETIFF, &mut request(flags));
    tap
}

struct Bench {
    driver: Driver,
    counters: Arc<NetCounters>,
    wire: OwnedFd,
}

/// Runs `test` on a thread in a new network namespace, which ends with it.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace of this thread changes, which no library code depends on.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return println!(
                "no network namespace can be made here: the network device is not tried"
            );
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn bench(features: u64) -> Bench {
    let fd = tap(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR);
    // SAFETY: plain calls without memory arguments.
    let control =
        owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) });
    ioctl(&control, libc::SIOCSIFFLAGS, &mut request(libc::IFF_UP));
    let mut index = request(0);
    ioctl(&control, libc::SIOCGIFINDEX, &mut index);
    let all = libc::c_int::from(u16::try_from(libc::ETH_P_ALL).expect("small").to_be());
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: as above.
    let wire = owned(unsafe { libc::socket(libc::AF_PACKET, kind, all) });
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("small"),
        sll_protocol: u16::try_from(all).expect("small"),
        sll_ifindex: i32::from_le_bytes([index[16], index[17], index[18], index[19]]),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).expect("small");
    // SAFETY: `address` is a whole `sockaddr_ll` of `len` bytes.
    let bound = unsafe { libc::bind(wire.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());

    let memory = memory();
    let config = NetConfig {
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        queue_size: 64,
    };
    let (device, starting) = Net::start(
        Tap::new(fd).expect("tap"),
        memory.clone(),
        config,
        &unconfined(),
    )
    .expect("device");
    starting.done().expect("started");
    let counters = device.counters();
    let mut driver = Driver::new(Arc::new(device), memory);
    driver.start(features);
    Bench {
        driver,
        counters,
        wire,
    }
}

/// An Ethernet frame of an experimental type, numbered, `len` bytes long.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xB5]);
    frame
}

fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xB5])
}

impl Bench {
    /// Puts a frame on the wire, towards the guest.
    fn arrive(&self, frame: &[u8]) {
        rustix::io::write(&self.wire, frame).expect("send");
    }

    /// Waits for a frame the guest has sent.
    fn leave(&self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let mut len = 0;
        until("a frame on the wire", || {
            len = rustix::io::read(&self.wire, &mut buffer[..]).unwrap_or(0);
            ours(&buffer[..len])
        });
        buffer.truncate(len);
        buffer
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.driver
            .memory
            .read_slice(&mut bytes, GuestAddress(at))
            .expect("memory");
        bytes
    }

    /// Waits for `count` frames of ours, skipping what the host says by itself; gives where they are.
    fn receive(&mut self, count: usize, buffer: u32) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while frames.len() < count {
            for (head, len) in self.driver.wait(RX_QUEUE, 1) {
                let at = DATA + u64::from(head) * 4096;
                let bytes = self.bytes(at, usize::try_from(len).expect("small"));
                if ours(&bytes[HEADER..]) {
                    assert_eq!(bytes[10..12], [1, 0], "num_buffers");
                    frames.push(bytes[HEADER..].to_vec());
                } else {
                    self.driver.offer(RX_QUEUE, &[(at, buffer, true)]);
                    self.driver.kick(RX_QUEUE);
                }
            }
        }
        frames
    }
}

#[test]
fn frames_go_both_ways() {
    in_namespace(|| {
        let mut bench = bench(feature::RING_EVENT_IDX);
        for number in 0..3 {
            let sent = frame(number, 60 + usize::from(number));
            bench
                .driver
                .memory
                .write_slice(&[0; HEADER], GuestAddress(DATA))
                .expect("memory");
            bench
                .driver
                .memory
                .write_slice(&sent, GuestAddress(DATA + 0x100))
                .expect("memory");
            let len = u32::try_from(sent.len()).expect("small");
            bench
                .driver
                .offer(TX_QUEUE, &[(DATA, 12, false), (DATA + 0x100, len, false)]);
            bench.driver.kick(TX_QUEUE);
            assert_eq!(bench.leave(), sent);
            bench.driver.wait(TX_QUEUE, 1);
        }
        // Buffer n lies at DATA + n * 4096, since each is a chain of one descriptor.
        for slot in 0..16 {
            bench
                .driver
                .offer(RX_QUEUE, &[(DATA + slot * 4096, 2048, true)]);
        }
        bench.driver.kick(RX_QUEUE);
        for number in 0..4 {
            bench.arrive(&frame(number, 1000));
        }
        let received = bench.receive(4, 2048);
        assert_eq!(
            received,
            (0..4).map(|number| frame(number, 1000)).collect::<Vec<_>>()
        );
        assert!(bench.driver.interrupts() > 0);
    });
}

#[test]
fn without_buffers_frames_wait_and_then_arrive() {
    in_namespace(|| {
        let mut bench = bench(feature::RING_EVENT_IDX);
        for number in 0..5 {
            bench.arrive(&frame(number, 100));
        }
        for slot in 0..32 {
            bench
                .driver
                .offer(RX_QUEUE, &[(DATA + slot * 4096, 2048, true)]);
        }
        bench.driver.kick(RX_QUEUE);
        let received = bench.receive(5, 2048);
        assert_eq!(
            received,
            (0..5).map(|number| frame(number, 100)).collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_frame_spreads_over_merged_buffers() {
    in_namespace(|| {
        let mut bench = bench(feature::NET_MRG_RXBUF);
        for slot in 0..60 {
            bench
                .driver
                .offer(RX_QUEUE, &[(DATA + slot * 4096, 512, true)]);
        }
        bench.driver.kick(RX_QUEUE);
        let sent = frame(9, 1400);
        bench.arrive(&sent);
        // The host may say something of its own before and after.
        let (mut parts, mut total) = (Vec::new(), 0);
        while total < 1400 + HEADER {
            for (head, len) in bench.driver.wait(RX_QUEUE, 1) {
                let bytes = bench.bytes(
                    DATA + u64::from(head) * 4096,
                    usize::try_from(len).expect("small"),
                );
                if total == 0 && !ours(&bytes[HEADER..]) || total >= 1400 + HEADER {
                    continue;
                }
                total += bytes.len();
                parts.push(bytes);
            }
        }
        assert_eq!(parts[0][10..12], [3, 0], "three buffers");
        assert!(parts.concat()[HEADER..] == sent);
    });
}

#[test]
fn malformed_frames_are_dropped_and_counted() {
    in_namespace(|| {
        let mut bench = bench(0);
        bench.driver.offer(TX_QUEUE, &[(DATA, 12, false)]);
        bench.driver.offer(TX_QUEUE, &[(DATA, 66_000, false)]);
        bench.driver.offer(TX_QUEUE, &[(u64::MAX - 10, 100, false)]);
        bench.driver.offer(TX_QUEUE, &[(DATA, 100, true)]);
        bench.driver.kick(TX_QUEUE);
        assert_eq!(bench.driver.wait(TX_QUEUE, 4).len(), 4);
        assert_eq!(bench.counters.send_dropped.load(Ordering::Relaxed), 4);
        assert_eq!(bench.counters.sent.load(Ordering::Relaxed), 0);
        // Receive buffers that cannot hold a frame come straight back, unused.
        bench.driver.offer(RX_QUEUE, &[(DATA, 12, true)]);
        bench.driver.kick(RX_QUEUE);
        bench.arrive(&frame(1, 100));
        assert_eq!(bench.driver.wait(RX_QUEUE, 1), [(0, 0)]);
    });
}

#[test]
fn a_reset_card_starts_again() {
    in_namespace(|| {
        let mut bench = bench(feature::RING_EVENT_IDX);
        for number in 0..5 {
            bench.driver.reset();
            bench
                .driver
                .start(feature::RING_EVENT_IDX | feature::NET_GUEST_CSUM | feature::NET_GUEST_TSO4);
            let sent = frame(number, 80);
            bench
                .driver
                .memory
                .write_slice(&[0; HEADER], GuestAddress(DATA))
                .expect("memory");
            bench
                .driver
                .memory
                .write_slice(&sent, GuestAddress(DATA + 12))
                .expect("memory");
            bench.driver.offer(TX_QUEUE, &[(DATA, 92, false)]);
            bench.driver.kick(TX_QUEUE);
            assert_eq!(bench.leave(), sent);
        }
    });
}

#[test]
fn other_descriptors_are_refused() {
    in_namespace(|| {
        assert!(Tap::new(OwnedFd::from(tempfile::tempfile().expect("file"))).is_err());
        assert!(
            Tap::new(tap(libc::IFF_TAP | libc::IFF_NO_PI)).is_err(),
            "without the header"
        );
    });
}
