//! The fabric between real network namespaces.
//!
//! A namespace can only be entered by a process with one thread, so this has a main of its own in
//! place of libtest's. It needs user namespaces and ip(8); without them it says so and passes,
//! unless `CI` is set, where it fails.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use duress_fabric::{Counters, Link, Links, Options, PROBE_WAIT, PortId, Rule};

mod harms;
mod network;

use network::{Host, PATIENCE, fabric, hosts, prober};

const TESTS: &[(&str, fn())] = &[
    ("datagrams_pass_and_are_counted", datagrams_pass_and_are_counted),
    ("a_cut_is_one_way", a_cut_is_one_way),
    ("eight_hosts_are_halved_and_healed", eight_hosts_are_halved_and_healed),
    ("a_delay_holds_frames_back_one_way", a_delay_holds_frames_back_one_way),
    ("a_constant_delay_keeps_the_order", a_constant_delay_keeps_the_order),
    ("a_cut_stops_frames_already_held", a_cut_stops_frames_already_held),
    ("held_frames_are_bounded", held_frames_are_bounded),
    ("broadcasts_reach_all_but_cut_links", broadcasts_reach_all_but_cut_links),
    ("bulk_tcp_arrives_whole_in_large_frames", bulk_tcp_arrives_whole_in_large_frames),
    ("a_vanished_host_leaves_the_others_alone", a_vanished_host_leaves_the_others_alone),
    ("an_idle_fabric_sleeps", an_idle_fabric_sleeps),
    ("stopping_ends_the_thread", stopping_ends_the_thread),
];

fn main() -> ExitCode {
    duress_trials::run(&[TESTS, harms::TESTS].concat(), network::enter_namespaces)
}

fn ports(links: &Links) -> Vec<PortId> {
    links.ports().iter().map(|name| links.port(name).expect("a port has its own name")).collect()
}

/// Looks at a link's counters until they are as wanted.
fn wait_for(links: &Links, from: PortId, to: PortId, wanted: impl Fn(Counters) -> bool) -> Counters {
    let until = Instant::now() + PATIENCE;
    loop {
        let counters = links.counters(from, to);
        if wanted(counters) {
            return counters;
        }
        assert!(Instant::now() < until, "waited for other counters, last saw {counters:?}");
        std::thread::yield_now();
    }
}

/// Whether a datagram sent from one host to another arrives, and is answered.
fn echoes(from: &UdpSocket, to: &UdpSocket, address: Ipv4Addr) -> bool {
    let mut buffer = [0; 2048];
    let port = to.local_addr().expect("it is bound").port();
    from.send_to(b"there", (address, port)).expect("the route is there");
    let Ok((length, sender)) = to.recv_from(&mut buffer) else { return false };
    to.send_to(&buffer[..length], sender).expect("the route is there");
    from.recv_from(&mut buffer).is_ok_and(|(length, _)| &buffer[..length] == b"there")
}

fn datagrams_pass_and_are_counted() {
    let hosts = hosts("pass", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let (a, b) = (hosts[0].udp(5000), hosts[1].udp(5000));
    for _ in 0..20 {
        assert!(echoes(&a, &b, hosts[1].address));
    }
    // The last answer has been received, but is perhaps not counted yet.
    let back = wait_for(&links, port[1], port[0], |counters| counters.frames >= 20);
    let there = links.counters(port[0], port[1]);
    // Ethernet, IPv4 and UDP headers, and five bytes.
    let expected = Counters { frames: 20, bytes: 20 * (14 + 20 + 8 + 5), ..Counters::default() };
    assert_eq!(there, expected);
    assert_eq!(back, expected);
    assert_eq!((links.missed(port[0]), links.missed(port[1])), (0, 0));
}

fn a_cut_is_one_way() {
    let hosts = hosts("oneway", 3);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let prober = prober(&hosts);
    links.set(port[0], port[1], Rule::CUT);
    let matrix = prober.matrix(PROBE_WAIT);
    assert_eq!(matrix.compare(&|from, to| (from, to) == (0, 1)), []);
    let dropped = links.counters(port[0], port[1]);
    assert_eq!((dropped.frames, dropped.dropped), (0, 3), "every attempt was dropped, by the rule");
    assert!(links.all().filter(|link| *link != Link { from: port[0], to: port[1] }).all(|link| {
        let counters = links.counters(link.from, link.to);
        counters.dropped == 0 && counters.failed == 0
    }));
    links.heal_all();
    assert_eq!(prober.probe(&[(0, 1)], PATIENCE).compare(&|_, _| false), []);
}

fn eight_hosts_are_halved_and_healed() {
    let hosts = hosts("eight", 8);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let prober = prober(&hosts);
    assert_eq!(prober.matrix(PATIENCE).compare(&|_, _| false), []);

    let apart = |from: usize, to: usize| (from < 4) != (to < 4);
    let cuts: Vec<_> =
        links.all().filter(|link| apart(link.from.index(), link.to.index())).map(|link| (link, Rule::CUT)).collect();
    assert_eq!(cuts.len(), 32);
    links.set_many(&cuts);
    assert_eq!(prober.matrix(PROBE_WAIT).compare(&apart), []);

    links.heal_all();
    assert_eq!(prober.matrix(PATIENCE).compare(&|_, _| false), []);
}

fn a_delay_holds_frames_back_one_way() {
    const DELAY: Duration = Duration::from_millis(5);
    const PROBES: usize = 100;
    let hosts = hosts("delay", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let prober = prober(&hosts);
    links.set(port[0], port[1], Rule::delayed(DELAY));
    let mut late: Vec<Duration> = (0..PROBES)
        .map(|_| {
            let latency = prober.probe(&[(0, 1)], PATIENCE).latency(0, 1).expect("a delay loses nothing");
            latency.checked_sub(DELAY).unwrap_or_else(|| panic!("{latency:?} is less than the delay"))
        })
        .collect();
    late.sort();
    println!(
        "    held {DELAY:?} and, over {PROBES} probes, {:?} more (median), {:?} (p99)",
        late[PROBES / 2],
        late[PROBES * 99 / 100]
    );
    // Loose: others may have the processor. The benchmark has the strict figures.
    assert!(late[PROBES / 2] < DELAY, "the median is late by {:?}", late[PROBES / 2]);
    assert!(prober.probe(&[(1, 0)], PATIENCE).reached(1, 0));
    assert!(links.counters(port[0], port[1]).delayed >= PROBES as u64);
    assert_eq!(links.counters(port[1], port[0]).delayed, 0);
}

fn a_constant_delay_keeps_the_order() {
    // As many as surely fit in the receiver's buffer.
    const COUNT: u32 = 200;
    let hosts = hosts("order", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    links.set(port[0], port[1], Rule::delayed(Duration::from_millis(3)));
    let (a, b) = (hosts[0].udp(5000), hosts[1].udp(5000));
    for i in 0..COUNT {
        a.send_to(&i.to_le_bytes(), (hosts[1].address, 5000)).expect("the route is there");
    }
    let mut buffer = [0; 4];
    for i in 0..COUNT {
        b.recv(&mut buffer).expect("a delay loses nothing");
        assert_eq!(u32::from_le_bytes(buffer), i);
    }
}

fn a_cut_stops_frames_already_held() {
    let hosts = hosts("held", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let (a, b) = (hosts[0].udp(5000), hosts[1].udp(5000));
    links.set(port[0], port[1], Rule::delayed(Duration::from_millis(200)));
    for _ in 0..5 {
        a.send_to(b"too late", (hosts[1].address, 5000)).expect("the route is there");
    }
    wait_for(&links, port[0], port[1], |counters| counters.delayed == 5);
    links.set(port[0], port[1], Rule::CUT);
    let counters = wait_for(&links, port[0], port[1], |counters| counters.dropped == 5);
    assert_eq!(counters.frames, 0);
    links.heal_all();
    a.send_to(b"now", (hosts[1].address, 5000)).expect("the route is there");
    let mut buffer = [0; 64];
    let length = b.recv(&mut buffer).expect("the link is healed");
    assert_eq!(&buffer[..length], b"now");
}

fn held_frames_are_bounded() {
    const COUNT: u64 = 200;
    let hosts = hosts("bound", 2);
    // Room for some of the frames, of 1042 bytes each, headers and bookkeeping aside.
    let fabric = fabric(&hosts, &Options { held_limit: 100 * 1042, ..Options::default() });
    let links = fabric.links();
    let port = ports(&links);
    links.set(port[0], port[1], Rule::delayed(Duration::from_secs(3600)));
    let a = hosts[0].udp(5000);
    for _ in 0..COUNT {
        a.send_to(&[0; 1000], (hosts[1].address, 5000)).expect("the route is there");
    }
    let counters = wait_for(&links, port[0], port[1], |counters| counters.delayed + counters.overflowed == COUNT);
    assert!((80..100).contains(&counters.delayed), "{counters:?}");
    assert_eq!(counters.frames, 0);
    let b = hosts[1].udp(5000);
    b.send_to(b"back", (hosts[0].address, 5000)).expect("the route is there");
    let mut buffer = [0; 64];
    assert_eq!(a.recv(&mut buffer).expect("other links go on"), 4);
}

fn broadcasts_reach_all_but_cut_links() {
    let hosts = hosts("flood", 4);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    links.set(port[0], port[2], Rule::CUT);
    let sockets: Vec<UdpSocket> = hosts.iter().map(|host| host.udp(5000)).collect();
    sockets[0].set_broadcast(true).expect("broadcasts can be allowed");
    sockets[0].send_to(b"all", (Ipv4Addr::new(10, 77, 0, 255), 5000)).expect("the route is there");
    let mut buffer = [0; 64];
    for reached in [1, 3] {
        let received = sockets[reached].recv(&mut buffer);
        let seen = links.counters(port[0], port[reached]);
        assert_eq!(received.ok(), Some(3), "host {reached} has got no broadcast, after {seen:?}");
    }
    let counters = wait_for(&links, port[0], port[2], |counters| counters.dropped == 1);
    assert_eq!(counters.frames, 0);
    // Had it passed, it would be there before this one.
    assert!(echoes(&sockets[1], &sockets[2], hosts[2].address));
}

/// Sends `total` bytes over TCP and says how many arrived as they should.
fn transfer(from: &Host, to: &Host, port: u16, total: usize) -> usize {
    // Not a divisor of any buffer's size, so that a lost or doubled piece shows.
    let pattern: Vec<u8> = (0..251u8).cycle().take(251 * 256).collect();
    let listener = to.listen(port);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("someone connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero is fine");
            let mut buffer = vec![0; 1 << 18];
            let mut received = 0;
            loop {
                let length = stream.read(&mut buffer).expect("bytes keep coming");
                if length == 0 {
                    return received;
                }
                for byte in &buffer[..length] {
                    assert_eq!(usize::from(*byte), received % 251, "byte {received} is wrong");
                    received += 1;
                }
            }
        });
        let mut stream = from.on(|| TcpStream::connect((to.address, port))).expect("someone listens");
        let mut left = total;
        while left > 0 {
            let piece = left.min(pattern.len());
            stream.write_all(&pattern[..piece]).expect("someone reads");
            left -= piece;
        }
        drop(stream);
        receiver.join().expect("every byte was right")
    })
}

fn bulk_tcp_arrives_whole_in_large_frames() {
    const TOTAL: usize = 48 << 20;
    let hosts = hosts("bulk", 3);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    std::thread::scope(|scope| {
        let back = scope.spawn(|| transfer(&hosts[1], &hosts[0], 6001, TOTAL));
        assert_eq!(transfer(&hosts[0], &hosts[1], 6000, TOTAL), TOTAL);
        assert_eq!(back.join().expect("every byte was right"), TOTAL);
    });
    let counters = links.counters(port[0], port[1]);
    assert!(counters.bytes > TOTAL as u64);
    let mean = counters.bytes / counters.frames;
    println!("    {} frames of {mean} bytes in the mean, acknowledgements among them", counters.frames);
    // Frames of one segment each would be of at most 1514 bytes.
    assert!(mean > 1514, "large frames don't pass whole: {counters:?}");
    assert_eq!(links.counters(port[0], port[2]), Counters::default(), "nobody else sees it");

    // What is delayed keeps its offload header, too.
    links.set(port[0], port[2], Rule::delayed(Duration::from_millis(1)));
    assert_eq!(transfer(&hosts[0], &hosts[2], 6002, TOTAL / 8), TOTAL / 8);
}

fn a_vanished_host_leaves_the_others_alone() {
    let mut hosts = hosts("vanish", 3);
    let fabric = fabric(&hosts, &Options::default());
    let prober = prober(&hosts[..2]);
    let gone = hosts.pop().expect("there are three");
    let (name, address) = (gone.interface.clone(), gone.address);
    drop(gone);
    // The kernel takes its time to tear a namespace down.
    let until = Instant::now() + PATIENCE;
    while nix::net::if_::if_nametoindex(name.as_str()).is_ok() {
        assert!(Instant::now() < until, "the interface of a host that is gone is still there");
        std::thread::yield_now();
    }
    let links = fabric.links();
    let port = ports(&links);
    hosts[0].udp(5000).send_to(b"anyone", (address, 5000)).expect("the route is there");
    let counters = wait_for(&links, port[0], port[2], |counters| counters.failed == 1);
    assert_eq!(counters.frames, 0);
    assert_eq!(prober.matrix(PATIENCE).compare(&|_, _| false), []);
    assert!(fabric.is_running());
}

/// The forwarding threads of this process, by their place in /proc.
fn forwarding_threads() -> Vec<std::path::PathBuf> {
    fs::read_dir("/proc/self/task")
        .expect("procfs is mounted")
        .filter_map(|task| Some(task.ok()?.path()))
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "fabric"))
        .collect()
}

fn an_idle_fabric_sleeps() {
    let hosts = hosts("idle", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let prober = prober(&hosts);
    // After traffic, with a frame held, a timer set and a port torn down under it.
    links.set(port[0], port[1], Rule::delayed(Duration::from_secs(3600)));
    assert!(!prober.probe(&[(0, 1)], Duration::from_millis(1)).reached(0, 1));
    network::run_ip(&[format!("link del {}", hosts[1].interface)]).expect("it is ours");
    let threads = forwarding_threads();
    assert_eq!(threads.len(), 1);
    let switches = || {
        let status = fs::read_to_string(threads[0].join("status")).expect("the thread is there");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).expect("Linux counts them");
        let on_cpu = fs::read_to_string(threads[0].join("schedstat")).expect("the kernel keeps statistics");
        (line.to_owned(), on_cpu.split(' ').next().map(str::to_owned))
    };
    // It comes to rest: a whole wait of the prober, on a link with nothing to say, changes nothing.
    let until = Instant::now() + PATIENCE;
    let mut before = switches();
    loop {
        let (sender, mut buffer) = (hosts[0].udp(5001), [0; 1]);
        sender.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout above zero is fine");
        assert!(sender.recv(&mut buffer).is_err(), "nobody sends");
        let after = switches();
        if after == before {
            break;
        }
        assert!(Instant::now() < until, "the idle thread keeps running: {before:?}, then {after:?}");
        before = after;
    }
}

fn stopping_ends_the_thread() {
    let hosts = hosts("stop", 2);
    let running = fabric(&hosts, &Options::default());
    let links = running.links();
    let prober = prober(&hosts);
    assert_eq!(prober.matrix(PATIENCE).compare(&|_, _| false), []);
    assert_eq!(forwarding_threads().len(), 1);
    running.stop();
    assert_eq!(forwarding_threads(), Vec::<std::path::PathBuf>::new());
    assert_eq!(prober.matrix(PROBE_WAIT).compare(&|_, _| true), []);
    // The handle outlives it, and the ports are free for another.
    links.heal_all();
    let again = fabric(&hosts, &Options::default());
    assert_eq!(prober.matrix(PATIENCE).compare(&|_, _| false), []);
    drop(again);
    assert_eq!(forwarding_threads(), Vec::<std::path::PathBuf>::new());
}
