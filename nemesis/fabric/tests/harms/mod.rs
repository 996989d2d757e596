//! Every harm on real links, and the capture of it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use duress_fabric::{
    ALL, Cause, Delivery, Link, Links, Options, PortId, Rule, Seen, Shape, Shots, Verdict, Volley, decide,
};
use duress_seed::Seed;

use crate::network::{Host, PATIENCE, fabric, hosts, prober};
use crate::{ports, transfer, wait_for};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("each_frame_meets_the_fate_decided_for_it", each_frame_meets_the_fate_decided_for_it),
    ("frames_arrive_twice", frames_arrive_twice),
    ("frames_are_overtaken", frames_are_overtaken),
    ("damage_is_noticed_by_the_kernel_or_not", damage_is_noticed_by_the_kernel_or_not),
    ("large_frames_can_be_damaged_unnoticed", large_frames_can_be_damaged_unnoticed),
    ("delays_vary", delays_vary),
    ("a_rate_is_kept", a_rate_is_kept),
    ("large_packets_vanish", large_packets_vanish),
    ("both_ends_of_a_connection_are_reset", both_ends_of_a_connection_are_reset),
    ("a_new_connection_is_refused_by_a_reset", a_new_connection_is_refused_by_a_reset),
    ("a_link_flaps", a_link_flaps),
    ("tcp_survives_a_rough_link", tcp_survives_a_rough_link),
    ("a_capture_is_read_by_tshark", a_capture_is_read_by_tshark),
];

const SHOTS: Shots = Shots { count: 400, size: 100, every: Duration::ZERO, wait: Duration::from_millis(200) };

/// Two hosts, a volley from the first to the second under a rule, and what the counters say.
fn volley(name: &str, rule: Rule, shots: &Shots) -> (Volley, duress_fabric::Counters) {
    let hosts = hosts(name, 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    links.set(port[0], port[1], rule);
    let found = prober(&hosts).volley(&[(0, 1)], shots).remove(0);
    (found, links.counters(port[0], port[1]))
}

/// The numbers of the frames with a fate, of so many on the first link of the fabrics here.
fn fated(rule: &Rule, frames: u32, wanted: impl Fn(Verdict) -> bool) -> Vec<u32> {
    let link = Link { from: PortId::new(0), to: PortId::new(1) };
    let fate = |number: u32| decide(rule, Seed(1), link, &Seen::small(u64::from(number)));
    (0..frames).filter(|number| wanted(fate(*number))).collect()
}

/// The same seed and the same frames in, the same decisions out: what arrives is known beforehand,
/// frame by frame, over 20,000 of them.
fn each_frame_meets_the_fate_decided_for_it() {
    let rule = Rule { loss: 30_000, duplicate: 20_000, corrupt: 10_000, ..Rule::OPEN };
    let (found, counters) = volley("fate", rule, &Shots { count: 20_000, ..SHOTS });
    let delivered = |verdict| match verdict {
        Verdict::Deliver(delivery) => Some(delivery),
        _ => None,
    };
    let count =
        |wanted: &dyn Fn(Delivery) -> bool| fated(&rule, found.sent, |v| delivered(v).is_some_and(wanted)).len() as u64;
    let lost = fated(&rule, found.sent, |v| v == Verdict::Drop(Cause::Loss));
    let damaged = count(&|delivery| delivery.flip.is_some());
    assert_eq!((counters.lost, counters.corrupted), (lost.len() as u64, damaged));
    assert_eq!(counters.duplicated, count(&|delivery| delivery.twice));
    assert!(counters.lost > 400 && damaged > 100 && counters.duplicated > 200, "{counters:?}");
    let missing = fated(&rule, found.sent, |v| delivered(v).is_none_or(|delivery| delivery.flip.is_some()));
    let silent: Vec<u32> = (0..found.sent).filter(|n| found.latencies[*n as usize].is_none()).collect();
    assert!(silent == missing, "{} didn't arrive whole, and {} were to", silent.len(), missing.len());
    assert_eq!(u64::from(found.copies), count(&|delivery| delivery.twice && delivery.flip.is_none()));
}

fn frames_arrive_twice() {
    let (found, counters) = volley("twice", Rule { duplicate: ALL, ..Rule::OPEN }, &SHOTS);
    assert_eq!((found.arrived(), counters.duplicated, counters.frames), (400, 400, 800));
    // Copies of the last need not be waited for.
    assert!(found.copies >= 300, "{found:?}");
}

fn frames_are_overtaken() {
    let rule = Rule { reorder: ALL / 10, reorder_by: Duration::from_millis(5), ..Rule::OPEN };
    let shots = Shots { every: Duration::from_micros(50), ..SHOTS };
    let (found, counters) = volley("overtake", rule, &shots);
    assert_eq!(found.arrived(), 400, "none is lost");
    let expected = fated(&rule, 400, |v| matches!(v, Verdict::Deliver(d) if d.reordered)).len() as u64;
    assert_eq!(counters.reordered, expected);
    // The last may have nobody after them.
    assert!(found.overtaken > 0 && u64::from(found.overtaken) <= expected, "{} of {expected}", found.overtaken);
}

fn damage_is_noticed_by_the_kernel_or_not() {
    let (found, counters) = volley("noticed", Rule { corrupt: ALL / 4, ..Rule::OPEN }, &SHOTS);
    assert_eq!((u64::from(found.arrived()) + counters.corrupted, found.damaged), (400, 0));
    let (found, counters) = volley("unnoticed", Rule { corrupt_unnoticed: ALL / 4, ..Rule::OPEN }, &SHOTS);
    assert_eq!(u64::from(found.damaged), counters.corrupted);
    assert_eq!(found.arrived() + found.damaged, 400);
    assert!(found.damaged > 50, "{found:?}");
}

/// TCP hands over all bytes that were sent, some of them wrong: large frames, whose checksums the
/// kernel completes, and acknowledgements pass with the damage.
fn large_frames_can_be_damaged_unnoticed() {
    const TOTAL: usize = 4 << 20;
    let hosts = hosts("damage", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    links.set(port[0], port[1], Rule { corrupt_unnoticed: ALL / 2, ..Rule::OPEN });
    let (mut near, mut far) = connect(&hosts, 7000);
    let wrong = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut received = vec![0xff; TOTAL];
            far.read_exact(&mut received).expect("all bytes arrive");
            received.iter().map(|byte| byte.count_ones()).sum::<u32>()
        });
        near.write_all(&vec![0; TOTAL]).expect("someone reads");
        receiver.join().expect("all bytes have arrived")
    });
    let corrupted = links.counters(port[0], port[1]).corrupted;
    println!("    {wrong} bits of {TOTAL} bytes are wrong, in {corrupted} frames");
    // What was sent twice may have been damaged twice, and be thrown away.
    assert!(wrong > 5 && u64::from(wrong) <= corrupted, "{wrong} wrong bits in {corrupted} frames");
}

fn delays_vary() {
    let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(5));
    let (found, _) = volley("vary", Rule { delay, jitter, shape: Shape::Uniform, ..Rule::OPEN }, &SHOTS);
    assert_eq!(found.arrived(), 400);
    let [least, median, most] = [0.0, 0.5, 1.0].map(|share| found.latency(share).expect("they have arrived"));
    assert!(least >= delay - jitter && least < delay && median > delay - jitter / 2, "{least:?}, {median:?}");
    assert!(most > delay + jitter / 2, "{most:?}");
}

fn a_rate_is_kept() {
    // 100 frames of 1042 bytes at 10 Mbit/s take 83 ms; the queue holds 64 KiB or a tenth of a second.
    let rule = Rule { rate: Some(10_000_000), ..Rule::OPEN };
    let shots = Shots { count: 100, size: 1000, ..SHOTS };
    let (found, counters) = volley("rate", rule, &shots);
    assert_eq!((found.arrived(), counters.shaped, counters.tail_dropped), (100, 100, 0));
    let least = Duration::from_nanos(99 * 1042 * 800);
    assert!(found.took + Duration::from_millis(1) >= least, "{:?}, not {least:?}", found.took);
    let (found, counters) = volley("tail", rule, &Shots { count: 400, ..shots });
    assert!(counters.tail_dropped > 100 && counters.tail_dropped + counters.frames == 400, "{counters:?}");
    assert!((100..300).contains(&found.arrived()), "{}", found.arrived());
}

fn large_packets_vanish() {
    let rule = Rule { black_hole: Some(500), ..Rule::OPEN };
    // UDP and IP add 28 bytes.
    let (found, counters) = volley("small", rule, &Shots { count: 20, size: 472, ..SHOTS });
    assert_eq!((found.arrived(), counters.black_holed), (20, 0));
    let (found, counters) = volley("large", rule, &Shots { count: 20, size: 473, ..SHOTS });
    assert_eq!((found.arrived(), counters.black_holed), (0, 20));
}

/// A connection from the first host to the second.
fn connect(hosts: &[Host], port: u16) -> (TcpStream, TcpStream) {
    let listener = hosts[1].listen(port);
    let near = hosts[0].on(|| TcpStream::connect((hosts[1].address, port))).expect("someone listens");
    let (far, _) = listener.accept().expect("someone has connected");
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero is fine");
        stream.set_nodelay(true).expect("it can be set");
    }
    (near, far)
}

fn reset_both_ways(links: &Links, port: &[PortId]) {
    let reset = Rule { reset: true, ..Rule::OPEN };
    let both = [(0, 1), (1, 0)].map(|(from, to)| (Link { from: port[from], to: port[to] }, reset));
    links.set_many(&both);
}

fn both_ends_of_a_connection_are_reset() {
    let hosts = hosts("reset", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let mut buffer = [0; 16];
    // Idle, in conversation, and in the middle of a stream.
    for (number, (before, data)) in [(0, &b"x"[..]), (5, b"hello"), (300_000, &[7; 5000])].into_iter().enumerate() {
        let (mut near, mut far) = connect(&hosts, 7000 + number as u16);
        for _ in 0..before / 1000 + usize::from(before > 0) {
            near.write_all(&vec![1; before.min(1000)]).expect("the link is whole");
            far.read_exact(&mut vec![0; before.min(1000)]).expect("the link is whole");
        }
        reset_both_ways(&links, &port);
        near.write_all(data).expect("there is room to send");
        for (end, stream) in [("near", &mut near), ("far", &mut far)] {
            let error = stream.read(&mut buffer).expect_err("the connection is gone");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{end}, after {before} bytes: {error}");
        }
        links.heal_all();
        let (mut near, mut far) = connect(&hosts, 7100 + number as u16);
        near.write_all(b"whole").expect("the link is healed");
        far.read_exact(&mut buffer[..5]).expect("the link is healed");
    }
    let resets: u64 = links.all().map(|link| links.counters(link.from, link.to).reset).sum();
    assert!(resets >= 3, "{resets}");
    assert!(!prober(&hosts).matrix(PATIENCE).compare(&|_, _| false).iter().any(|_| true), "UDP is left alone");
}

fn a_new_connection_is_refused_by_a_reset() {
    let hosts = hosts("refuse", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let _listener = hosts[1].listen(7000);
    links.set(port[0], port[1], Rule { reset: true, ..Rule::OPEN });
    let error = hosts[0].on(|| TcpStream::connect((hosts[1].address, 7000))).expect_err("nothing passes");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

fn a_link_flaps() {
    let every = Duration::from_millis(20);
    let shots = Shots { count: 100, every: Duration::from_millis(1), ..SHOTS };
    let (found, counters) = volley("flap", Rule { flap: Some(every), ..Rule::OPEN }, &shots);
    let turns = found.latencies.windows(2).filter(|pair| pair[0].is_some() != pair[1].is_some()).count();
    assert!((2..=6).contains(&turns), "{turns} turns in 100 ms: {found:?}");
    assert_eq!(counters.flapped + u64::from(found.arrived()), 100);
    assert!((20..80).contains(&counters.flapped), "{counters:?}");
}

fn tcp_survives_a_rough_link() {
    const TOTAL: usize = 4 << 20;
    let hosts = hosts("rough", 2);
    let fabric = fabric(&hosts, &Options::default());
    let links = fabric.links();
    let port = ports(&links);
    let rough = Rule {
        delay: Duration::from_millis(1),
        jitter: Duration::from_micros(300),
        shape: Shape::Normal,
        loss: 10_000,
        duplicate: 200_000,
        corrupt: 100_000,
        reorder: 50_000,
        reorder_by: Duration::from_millis(1),
        ..Rule::OPEN
    };
    let both = [(0, 1), (1, 0)].map(|(from, to)| (Link { from: port[from], to: port[to] }, rough));
    links.set_many(&both);
    assert_eq!(transfer(&hosts[0], &hosts[1], 6000, TOTAL), TOTAL);
    let counters = links.counters(port[0], port[1]);
    println!("    {counters:?}");
    assert!(counters.duplicated > 0 && counters.delayed > 0);
}

fn a_capture_is_read_by_tshark() {
    if Command::new("tshark").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "tshark is not installed");
        return eprintln!("SKIPPED: a_capture_is_read_by_tshark: tshark is not installed");
    }
    let directory = tempfile::tempdir().expect("there is room for a temporary directory");
    let path = directory.path().join("run.pcapng");
    let hosts = hosts("capture", 2);
    let fabric = fabric(&hosts, &Options { capture: Some(path.clone()), ..Options::default() });
    let links = fabric.links();
    let port = ports(&links);
    let prober = prober(&hosts);
    let volley = |rule: Rule| {
        links.set(port[0], port[1], rule);
        prober.volley(&[(0, 1)], &Shots { count: 10, wait: Duration::from_millis(50), ..SHOTS })
    };
    volley(Rule::OPEN);
    links.note("fault 1 starts: loss");
    volley(Rule { loss: ALL, ..Rule::OPEN });
    volley(Rule { corrupt: ALL, duplicate: ALL, ..Rule::delayed(Duration::from_millis(2)) });
    links.note("fault 1 ends");
    links.heal_all();
    links.set(port[0], port[1], Rule { reset: true, ..Rule::OPEN });
    let _listener = hosts[1].listen(7000);
    assert!(hosts[0].on(|| TcpStream::connect((hosts[1].address, 7000))).is_err());
    wait_for(&links, port[0], port[1], |counters| counters.reset == 1);
    fabric.stop();
    let captured = links.captured().expect("there is a capture");
    assert_eq!((captured.frames, captured.missed), (32, 0));

    let fields = ["frame.interface_name", "udp.dstport", "tcp.flags.reset", "frame.comment"];
    let mut reader = Command::new("tshark");
    reader.arg("-r").arg(&path).args(["-T", "fields", "-E", "separator=|"]);
    for field in fields {
        reader.args(["-e", field]);
    }
    let output = reader.output().expect("it was there just now");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it writes UTF-8");
    let lines = |wanted: &str| text.lines().filter(|line| *line == wanted).count();
    for (wanted, count) in [
        ("capture0|9471||", 10),
        ("capture0|9471||dropped: loss", 10),
        ("capture0|9471||delayed by 2ms, duplicated, corrupted, checksum left wrong", 10),
        ("capture0||0|dropped: its connection is reset", 1),
        ("capture0||1|forged: reset", 1),
        ("faults|||fault 1 starts: loss", 1),
        ("faults|||capture0 -> capture1: loss of 100%", 1),
        ("faults|||capture0 -> capture1: open", 1),
        ("faults|||fault 1 ends", 1),
        ("faults|||end of the capture: 32 frames, and 0 more that are not in it", 1),
    ] {
        assert_eq!(lines(wanted), count, "{wanted}\n{text}");
    }
}
