//! What the fabric costs, against a plain kernel bridge between the same kind of hosts in the same
//! run: round trip, TCP throughput, processor time per frame, and how late delayed frames are.
//!
//! `cargo bench -p duress-fabric`; needs user namespaces and ip(8), no root.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use duress_fabric::{Fabric, Options, Rule};

#[path = "../tests/network/mod.rs"]
mod network;

use network::{Host, PATIENCE, fabric, hosts, prober, run_ip};

const ROUNDS: usize = 40;
const PINGS_PER_ROUND: usize = 500;
const TRANSFER: Duration = Duration::from_millis(1500);
const CROWD: Duration = Duration::from_secs(2);
const CROWD_PAIRS: u16 = 5;
const DELAY: Duration = Duration::from_millis(2);
const DELAYED: usize = 1000;
const DELAYED_PER_ROUND: usize = 100;

fn main() {
    // `cargo test --benches` wants to know that it runs, not how fast.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if let Err(reason) = network::enter_namespaces() {
        eprintln!("SKIPPED: the benchmark needs namespaces of its own: {reason}");
        return;
    }
    let over_bridge = hosts("bridged", 2);
    let mut lines = vec!["link add bridge type bridge".to_owned(), "link set bridge up".to_owned()];
    lines.extend(over_bridge.iter().map(|host| format!("link set {} master bridge", host.interface)));
    run_ip(&lines).expect("the kernel has bridges");
    let over_fabric = hosts("switched", 2);
    let running = fabric(&over_fabric, &Options::default());

    // Warm up, and wait until the bridge forwards.
    for both in [&over_bridge, &over_fabric] {
        let ready = prober(both).matrix(PATIENCE).compare(&|_, _| false);
        assert_eq!(ready, [], "the hosts don't reach each other");
    }

    // Taken in turns, so that whatever else the machine does hurts both.
    let (mut bridge_trips, mut fabric_trips) = (Vec::new(), Vec::new());
    let (mut bridge_medians, mut fabric_medians) = (Vec::new(), Vec::new());
    let ping_cost = cost(&running, || {
        for _ in 0..ROUNDS {
            for (hosts, trips, medians) in [
                (&over_bridge, &mut bridge_trips, &mut bridge_medians),
                (&over_fabric, &mut fabric_trips, &mut fabric_medians),
            ] {
                let mut round = round_trips(hosts, PINGS_PER_ROUND);
                round.sort_unstable();
                medians.push(round[PINGS_PER_ROUND / 2]);
                trips.append(&mut round);
            }
        }
    });
    let (mut bridge_rate, mut fabric_rate) = (0.0, 0.0);
    let bulk_cost = cost(&running, || {
        for _ in 0..2 {
            bridge_rate += throughput(&over_bridge) / 2.0;
            fabric_rate += throughput(&over_fabric) / 2.0;
        }
    });
    let mut crowd_rate = 0.0;
    let crowd_cost = cost(&running, || crowd_rate = crowd(&over_fabric));

    bridge_trips.sort_unstable();
    fabric_trips.sort_unstable();
    bridge_medians.sort_unstable();
    fabric_medians.sort_unstable();
    println!("{:<34} {:>9} {:>9} {:>7} {:>10}", "", "bridge", "fabric", "ratio", "added");
    for (name, bridge, fabric, share) in [
        ("UDP round trip, median", &bridge_trips, &fabric_trips, 0.5),
        ("UDP round trip, p99", &bridge_trips, &fabric_trips, 0.99),
        // What else the machine does only ever adds.
        ("medians of rounds, quietest quarter", &bridge_medians, &fabric_medians, 0.25),
    ] {
        let (bridge, fabric) = (micros(bridge, share), micros(fabric, share));
        println!("{name:<34} {bridge:>6.1} µs {fabric:>6.1} µs {:>7.2} {:>7.1} µs", fabric / bridge, fabric - bridge);
    }
    println!("{:<34} {bridge_rate:>6.2} Gb {fabric_rate:>6.2} Gb {:>7.2}", "TCP, bits/s", fabric_rate / bridge_rate);

    println!("\nprocessor time of the forwarding thread, the receiving host's network stack included");
    println!("{:<34} {:>12} {:>16} {:>10}", "", "frames/s", "s/million frames", "load");
    for (name, cost) in
        [("pings, one at a time", ping_cost), ("bulk TCP", bulk_cost), ("pings, five pairs", crowd_cost)]
    {
        println!(
            "{name:<34} {:>12.0} {:>16.2} {:>9.0}%",
            cost.frames / cost.wall,
            cost.busy / cost.frames * 1e6,
            cost.busy / cost.wall * 100.0
        );
    }
    println!("five pairs make {crowd_rate:.0} round trips a second");

    let links = running.links();
    let ports: Vec<_> = over_fabric.iter().filter_map(|host| links.port(&host.name)).collect();
    links.set(ports[0], ports[1], Rule::delayed(DELAY));
    let prober = prober(&over_fabric);
    let mut late: Vec<Duration> = (0..DELAYED)
        .filter_map(|_| prober.probe(&[(0, 1)], PATIENCE).latency(0, 1))
        .map(|latency| latency.saturating_sub(DELAY))
        .collect();
    let mut latest: Vec<Duration> =
        late.chunks(DELAYED_PER_ROUND).filter_map(|round| round.iter().max().copied()).collect();
    latest.sort_unstable();
    late.sort_unstable();
    println!(
        "\nframes delayed by {DELAY:?} are late by {:.1} µs (median), {:.1} µs (p99), of {};\n\
         the latest of {DELAYED_PER_ROUND} by {:.1} µs in the quietest quarter of rounds",
        micros(&late, 0.5),
        micros(&late, 0.99),
        late.len(),
        micros(&latest, 0.25)
    );
}

fn micros(sorted: &[Duration], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
}

/// What the forwarding thread did meanwhile.
struct Cost {
    /// Seconds.
    wall: f64,
    /// Seconds on a processor.
    busy: f64,
    /// Frames delivered on all links.
    frames: f64,
}

fn cost(fabric: &Fabric, work: impl FnOnce()) -> Cost {
    let links = fabric.links();
    let frames = || links.all().map(|link| links.counters(link.from, link.to).frames).sum::<u64>() as f64;
    let thread = forwarding_thread();
    let busy = || {
        let statistics = fs::read_to_string(thread.join("schedstat")).expect("the kernel keeps statistics");
        let nanos = statistics.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
        nanos.expect("schedstat starts with nanoseconds") / 1e9
    };
    let (frames_before, busy_before, started) = (frames(), busy(), Instant::now());
    work();
    Cost { wall: started.elapsed().as_secs_f64(), busy: busy() - busy_before, frames: frames() - frames_before }
}

fn forwarding_thread() -> PathBuf {
    fs::read_dir("/proc/self/task")
        .expect("procfs is mounted")
        .filter_map(|task| Some(task.ok()?.path()))
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "fabric"))
        .expect("the fabric runs")
}

fn echo_until(socket: &UdpSocket, done: &AtomicBool) {
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout above zero is fine");
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Lost answers show as missing round trips.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn round_trips(hosts: &[Host], count: usize) -> Vec<Duration> {
    let (asker, answerer) = (hosts[0].udp(5000), hosts[1].udp(5000));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| echo_until(&answerer, &done));
        let mut buffer = [0; 64];
        let mut trips = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            asker.send_to(&buffer, (hosts[1].address, 5000)).expect("the route is there");
            asker.recv(&mut buffer).expect("nothing is lost");
            trips.push(started.elapsed());
        }
        done.store(true, Ordering::Relaxed);
        trips
    })
}

/// Gigabits per second over one TCP connection.
fn throughput(hosts: &[Host]) -> f64 {
    let listener = hosts[1].listen(5001);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("someone connects");
            let mut buffer = vec![0; 1 << 18];
            let (mut received, started) = (0u64, Instant::now());
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                received += length as u64;
            }
            received as f64 * 8.0 / 1e9 / started.elapsed().as_secs_f64()
        });
        let mut stream = hosts[0].on(|| TcpStream::connect((hosts[1].address, 5001))).expect("someone listens");
        let (buffer, until) = (vec![0; 1 << 18], Instant::now() + TRANSFER);
        while Instant::now() < until {
            stream.write_all(&buffer).expect("someone reads");
        }
        drop(stream);
        receiver.join().expect("the receiver has not panicked")
    })
}

/// Round trips per second of several pairs of sockets at once.
fn crowd(hosts: &[Host]) -> f64 {
    let all_done: Vec<AtomicBool> = (0..CROWD_PAIRS).map(|_| AtomicBool::new(false)).collect();
    let trips = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (port, done) in (6000..).zip(&all_done) {
            let (asker, answerer) = (hosts[0].udp(port), hosts[1].udp(port));
            let trips = &trips;
            scope.spawn(move || echo_until(&answerer, done));
            scope.spawn(move || {
                let mut buffer = [0; 64];
                while started.elapsed() < CROWD {
                    asker.send_to(&buffer, (hosts[1].address, port)).expect("the route is there");
                    asker.recv(&mut buffer).expect("nothing is lost");
                    trips.fetch_add(1, Ordering::Relaxed);
                }
                done.store(true, Ordering::Relaxed);
            });
        }
    });
    trips.into_inner() as f64 / started.elapsed().as_secs_f64()
}
