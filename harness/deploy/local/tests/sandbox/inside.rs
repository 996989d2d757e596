//! The cases, as seen from inside the sandbox.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use duress_backend::{HostSpec, ProcessSpec, ProcessState, Resource};
use duress_fabric::Rule;
use duress_local::{DeployError, Local, Process, cpu_time_self, sandbox};
use duress_seed::Seed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{getpid, getppid};

/// How long anything may take that ought to happen at once.
const BOUND: Duration = Duration::from_secs(10);

pub(crate) fn main(what: &str, rest: &[&str]) -> ExitCode {
    sandbox::prepare_inside().expect("the sandbox can be prepared");
    match (what, rest) {
        ("missing", []) => missing(),
        ("without_user_namespace", []) => without_user_namespace(),
        ("own_world", []) => own_world(),
        ("orphans", []) => orphans(),
        ("exit", ["killed"]) => kill(getpid(), Signal::SIGKILL).expect("a process may kill itself"),
        ("exit", [code]) => return ExitCode::from(code.parse::<u8>().expect("a code")),
        ("wait_for_interrupt", []) => return wait_for_interrupt(),
        ("hosts", []) => hosts(),
        ("cut", []) => cut(),
        ("process", [directory]) => process(Path::new(directory)),
        ("signals", [directory]) => signals(Path::new(directory)),
        ("dozes", [directory]) => dozes(Path::new(directory)),
        ("limits", [directory]) => limits(Path::new(directory)),
        ("refused", [directory]) => refused(Path::new(directory)),
        ("seven", []) => seven(),
        ("victim", [directory]) => victim(Path::new(directory)),
        other => panic!("no such inside: {other:?}"),
    }
    ExitCode::SUCCESS
}

/// Looks until `seen` gives something, bounded.
fn eventually<T>(what: &str, mut seen: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match seen() {
            Ok(value) => return value,
            Err(last) => assert!(began.elapsed() < BOUND, "not {what}; last seen: {last}"),
        }
        thread::yield_now();
    }
}

fn local(names: &[&str]) -> Local {
    let specs: Vec<_> = names.iter().map(|name| HostSpec::new(*name)).collect();
    Local::new(&specs, Seed(1)).expect("hosts")
}

fn missing() {
    // Root can do without a user namespace, but nobody can do without a network namespace.
    fs::write("/proc/sys/user/max_net_namespaces", "0").expect("a limit can be set");
    let told = duress_local::preflight();
    assert!(!told.ok(), "{told}");
    let text = told.to_string();
    assert!(text.contains("MISSING") && text.contains("No space left") && text.contains("user.max_"), "{text}");
    let error = sandbox::enter(&["inside".into(), "exit".into(), "0".into()]).expect_err("no sandbox").to_string();
    assert!(error.contains("could not make user, mount") && error.contains("user.max_"), "{error}");
    let error = Local::new(&[HostSpec::new("n1")], Seed(1)).expect_err("no host").to_string();
    assert!(error.contains("network namespace for n1"), "{error}");
}

fn without_user_namespace() {
    // In here everybody is root, and may do without what this forbids.
    fs::write("/proc/sys/user/max_user_namespaces", "0").expect("a limit can be set");
    let own = fs::read_link("/proc/self/ns/user").expect("a user namespace");
    let nested = sandbox::enter(&["inside".into(), "hosts".into()]).expect("a sandbox in the sandbox");
    let theirs = fs::read_link(format!("/proc/{}/ns/user", nested.pid())).expect("a user namespace");
    assert_eq!(theirs, own);
    assert_eq!(nested.wait().expect("a status").code(), Some(0));
    let told = duress_local::preflight();
    assert!(told.ok(), "{told}");
}

fn own_world() {
    assert_eq!((getpid().as_raw(), getppid().as_raw()), (2, 1));
    let processes =
        fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut processes: Vec<_> = processes.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect();
    processes.sort();
    assert_eq!(processes, ["1", "2"], "/proc is not that of this PID namespace");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("a name"), "duress\n");
    if let Ok(disabled) = fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6") {
        assert_eq!(disabled, "1\n");
    }
    let shared: Vec<_> = fs::read_to_string("/proc/self/mountinfo")
        .expect("mounts")
        .lines()
        .filter(|line| line.contains(" shared:") || line.contains(" master:"))
        .map(str::to_string)
        .collect();
    assert!(shared.is_empty(), "these mounts are not private: {shared:?}");
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.send_to(b"x", socket.local_addr()?))
        .expect("lo is up");
    let again = sandbox::prepare_inside().expect_err("that is done already").to_string();
    assert!(again.contains("it is process 2"), "{again}");
}

fn orphans() {
    // The shell ends at once and leaves a process behind, which then ends too.
    let status = Command::new("sh").args(["-c", "(exec sh -c 'exit 3') & exit 7"]).status().expect("sh");
    assert_eq!(status.code(), Some(7), "the status of a child was lost");
    eventually("alone with init", || {
        let others: Vec<_> = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.parse::<u32>().is_ok_and(|pid| pid > 2))
            .collect();
        if others.is_empty() { Ok(()) } else { Err(format!("processes {others:?}")) }
    });
}

fn wait_for_interrupt() -> ExitCode {
    eventually("interrupted", || if sandbox::interrupted() { Ok(()) } else { Err("nothing".into()) });
    ExitCode::from(5)
}

fn hosts() {
    let names = ["n1", "n2", "client-1"];
    let local = local(&names);
    assert_eq!(local.hosts().collect::<Vec<_>>(), names);
    assert_eq!(local.address("client-1"), Some(Ipv4Addr::new(10, 86, 0, 3)));
    assert_eq!(local.address("n9"), None);
    let error = local.in_host("n9", || ()).expect_err("no such host").to_string();
    assert!(error.contains("there are n1, n2, client-1"), "{error}");

    let socket = |name: &str| {
        let address = local.address(name).expect("an address");
        let socket = local.in_host(name, || UdpSocket::bind((address, 4000))).expect("a host").expect("a socket");
        socket.set_read_timeout(Some(BOUND)).expect("a timeout");
        socket
    };
    let sockets = names.map(socket);
    for (from, sender) in sockets.iter().enumerate() {
        for (to, receiver) in sockets.iter().enumerate().filter(|(to, _)| *to != from) {
            let mut buffer = [0; 16];
            sender
                .send_to(&[from as u8, to as u8], (local.address(names[to]).expect("an address"), 4000))
                .expect("sent");
            let (length, source) = receiver.recv_from(&mut buffer).expect("a datagram");
            assert_eq!(buffer[..length], [from as u8, to as u8]);
            assert_eq!(Some(source.ip()), local.address(names[from]).map(Into::into));
            receiver.send_to(b"back", source).expect("sent");
            let (length, _) = sender.recv_from(&mut buffer).expect("the answer");
            assert_eq!(&buffer[..length], b"back");
        }
    }
    // Nobody has ever asked for an Ethernet address: all are pinned (flags 0x6: complete, permanent).
    let neighbours = local.in_host("n1", || fs::read_to_string("/proc/thread-self/net/arp")).expect("a host");
    let neighbours = neighbours.expect("neighbours");
    assert_eq!(neighbours.lines().skip(1).filter(|line| line.contains(" 0x6 ")).count(), 2, "{neighbours}");
    // A thread that lives on a host, away from `local`.
    let namespace = local.namespace("n2").expect("a host");
    let bound = thread::spawn(move || {
        namespace.enter().expect("the host can be entered");
        UdpSocket::bind((Ipv4Addr::new(10, 86, 0, 2), 4001)).map(drop)
    });
    bound.join().expect("no panic").expect("n2's address is the thread's own");
    // This thread has stayed where it was.
    assert!(UdpSocket::bind((Ipv4Addr::new(10, 86, 0, 2), 4002)).is_err());
    // A host that moves is found at its new address only, and its links are probed there.
    let (old, silence) = (Ipv4Addr::new(10, 86, 0, 2), Duration::from_millis(100));
    assert!(local.answers("n1", old, BOUND).expect("a host"));
    let new = local.renumber("n2").expect("another address");
    assert_eq!((new, local.address("n2")), (Ipv4Addr::new(10, 86, 1, 2), Some(new)));
    for other in ["n1", "client-1"] {
        assert!(local.answers(other, new, BOUND).expect("a host"), "{other} doesn't find n2 at {new}");
        assert!(!local.answers(other, old, silence).expect("a host"), "{other} still finds n2 at {old}");
    }
    let matrix = local.prober().matrix(BOUND);
    assert!(matrix.links().all(|(from, to)| matrix.reached(from, to)));
}

fn cut() {
    let local = local(&["n1", "n2", "n3"]);
    let links = local.links();
    let port = |name| links.port(name).expect("a port");
    let whole = local.prober().matrix(BOUND);
    assert_eq!(whole.compare(&|_, _| false), [], "{whole:?}");
    links.set(port("n1"), port("n2"), Rule { drop: true, ..Rule::default() });
    let cut = local.prober().matrix(Duration::from_millis(100));
    assert_eq!(cut.compare(&|from, to| (from, to) == (0, 1)), [], "{cut:?}");
    assert!(links.counters(port("n1"), port("n2")).dropped > 0);
    links.heal_all();
    let healed = local.prober().matrix(BOUND);
    assert_eq!(healed.compare(&|_, _| false), [], "{healed:?}");
}

fn ask(control: &UnixStream, question: &str) -> String {
    let mut asking = control;
    writeln!(asking, "{question}").expect("the process listens");
    let mut answer = String::new();
    BufReader::new(control).read_line(&mut answer).expect("an answer in time");
    answer.trim().into()
}

fn process(directory: &Path) {
    let local = local(&["n1", "n2"]);
    let log = directory.join("log");
    fs::write(&log, "before\n").expect("a log");
    // Something that an unkempt library leaves open for children to inherit.
    let leak = fs::File::open("/dev/zero").expect("/dev/zero");
    nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).expect("no close-on-exec");

    let mut spec = ProcessSpec::this_program(["node", "describe"], &log);
    spec.control = true;
    spec.env.push(("DURESS_TEST_VARIABLE".into(), "value".into()));
    spec.working_dir = Some(directory.into());
    let process = local.spawn("n2", spec).expect("a process");
    assert_eq!(process.host(), "n2");
    let control = process.take_control().expect("a control channel");
    control.set_read_timeout(Some(BOUND)).expect("a timeout");
    assert!(process.take_control().is_none());
    assert_eq!(ask(&control, "host name"), "n2");
    assert_eq!(ask(&control, "interfaces"), "lo eth0");
    assert_eq!(ask(&control, "descriptors"), "0 1 2 3");
    assert_eq!(ask(&control, "session"), "true");
    assert_eq!(ask(&control, "directory"), directory.display().to_string());
    assert_eq!(ask(&control, "variable"), "value");
    assert_eq!(ask(&control, "input"), "0");
    assert_eq!(ask(&control, "say"), "said");
    assert_eq!(fs::read_to_string(&log).expect("the log"), "before\non standard output\non standard error\n");
    // Host names and the sandbox's own are apart.
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("a name"), "duress\n");
    // Nobody else holds the other end: when the process goes, so does the channel, and the reverse.
    assert_eq!(process.try_wait().expect("a status"), None);
    drop(control);
    let status = process.wait(BOUND).expect("a status").expect("the process ends with its control channel");
    assert_eq!(status.code(), Some(7));
    assert_eq!(process.state(), ProcessState::Gone);
}

fn start(local: &Local, what: &str, directory: &Path) -> Process {
    local.spawn("n1", ProcessSpec::this_program(["node", what], directory.join("log"))).expect("a process")
}

fn signals(directory: &Path) {
    let local = local(&["n1"]);
    let process = start(&local, "spin", directory);
    let proc = format!("/proc/{}", process.pid());
    eventually("spinning in two threads", || match fs::read_dir(format!("{proc}/task")).expect("threads").count() {
        2 => Ok(()),
        other => Err(format!("{other} threads")),
    });
    assert_eq!(process.state(), ProcessState::Running);

    let began = Instant::now();
    process.pause().expect("it can be paused");
    println!("measured: paused in {:?}", began.elapsed());
    assert_eq!(process.state(), ProcessState::Stopped);
    let status = fs::read_to_string(format!("{proc}/status")).expect("a status");
    assert!(status.contains("State:\tT (stopped)"), "{status}");
    // Stopped is stopped: it used no time while this process used some.
    let (before, own) = (process.cpu_time(), cpu_time_self());
    assert!(before > Duration::ZERO);
    while cpu_time_self() - own < Duration::from_millis(20) {
        std::hint::spin_loop();
    }
    assert_eq!(process.cpu_time(), before);
    process.pause().expect("pausing what is paused is no error");

    process.resume().expect("it can be resumed");
    assert_eq!(process.state(), ProcessState::Running);
    eventually("running again", || match process.cpu_time() {
        time if time > before => Ok(()),
        time => Err(format!("{time:?} used")),
    });

    process.pause().expect("it can be paused");
    process.kill().expect("a paused process can be killed");
    assert_eq!(process.state(), ProcessState::Gone);
    assert!(!fs::exists(&proc).expect("/proc"), "it was not reaped");
    let status = process.try_wait().expect("a status").expect("it has ended");
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    assert!(process.cpu_time() >= before, "its CPU time is known after its end");
    process.kill().expect("killing what is gone is no error");
    let error = process.pause().expect_err("what is gone can't be paused");
    assert!(
        matches!(error, DeployError::State { wanted: ProcessState::Stopped, seen: ProcessState::Gone, .. }),
        "{error}"
    );

    let dropped = start(&local, "sleep", directory);
    let proc = format!("/proc/{}", dropped.pid());
    assert!(fs::exists(&proc).expect("/proc"));
    drop(dropped);
    assert!(!fs::exists(&proc).expect("/proc"), "dropping a process must kill it");
}

fn refused(directory: &Path) {
    let local = local(&["n1"]);
    let log = directory.join("log");
    let none: [&str; 0] = [];
    let spawn = |spec| local.spawn("n1", spec).map(drop).expect_err("that can't be started").to_string();
    let error = spawn(ProcessSpec::program("/no/such/program", none, &log));
    assert!(error.contains("/no/such/program on n1: No such file"), "{error}");
    let error = spawn(ProcessSpec::program(&log, none, &log));
    assert!(error.contains("Permission denied"), "{error}");
    let error = spawn(ProcessSpec::program("true", none, directory.join("no/log")));
    assert!(error.contains("open the log") && error.contains("no/log"), "{error}");
    let error = local.spawn("n2", ProcessSpec::program("true", none, &log)).map(drop).expect_err("no such host");
    assert!(matches!(error, DeployError::UnknownHost { .. }), "{error}");
    let twice = Local::new(&[HostSpec::new("n1")], Seed(1)).expect_err("p0 is taken").to_string();
    assert!(twice.contains("veth pair eth0 – p0") && twice.contains("exists"), "{twice}");
}

fn seven() {
    let began = Instant::now();
    let local = local(&["n1", "n2", "n3", "n4", "n5", "client-1", "client-2"]);
    let took = began.elapsed();
    println!("measured: 7 hosts in {took:?}");
    assert!(took < Duration::from_secs(1), "7 hosts took {took:?}");
    let whole = local.prober().matrix(BOUND);
    assert_eq!(whole.compare(&|_, _| false), [], "{whole:?}");
}

fn victim(directory: &Path) {
    let local = local(&["n1", "n2", "n3"]);
    let processes: Vec<_> = ["n1", "n2", "n3"]
        .into_iter()
        .map(|host| {
            let log = directory.join(format!("{host}-{}", std::env::var(crate::cases::MARK).expect("the mark")));
            let process = local.spawn(host, ProcessSpec::this_program(["node", "with_orphan"], &log));
            eventually("up", || match fs::read_to_string(&log) {
                Ok(text) if text == "up\n" => Ok(()),
                other => Err(format!("{other:?}")),
            });
            process.expect("a process")
        })
        .collect();
    println!("up");
    loop {
        thread::park();
        assert_eq!(processes.len(), 3);
    }
}

fn dozes(directory: &Path) {
    let local = local(&["n1"]);
    let process = start(&local, "spin", directory);
    let state = |process: &Process, wanted| {
        eventually("in the wanted state", || match process.state() {
            seen if seen == wanted => Ok(()),
            other => Err(other.to_string()),
        });
    };
    for _ in 0..20 {
        process.doze(true).expect("it can be stopped");
        state(&process, ProcessState::Stopped);
        process.doze(false).expect("it can be continued");
        state(&process, ProcessState::Running);
    }
    // A pause is stronger, and its end ends a doze.
    process.pause().expect("it can be paused");
    process.doze(false).expect("this does nothing");
    assert_eq!(process.state(), ProcessState::Stopped);
    process.resume().expect("it can be resumed");
    process.doze(true).expect("it can be stopped");
    process.pause().expect("it can be paused");
    process.resume().expect("it can be resumed");
    assert_eq!(process.state(), ProcessState::Running);
    process.kill().expect("it can be killed");
    process.doze(true).expect("what is gone needs no stopping");
}

fn limits(directory: &Path) {
    let local = local(&["n1"]);
    let spec = ProcessSpec { control: true, ..ProcessSpec::this_program(["node", "hungry"], directory.join("log")) };
    let process = local.spawn("n1", spec).expect("a process");
    let mut ask = process.take_control().expect("a control channel");
    let mut answers = BufReader::new(ask.try_clone().expect("a duplicate"));
    let mut say = |wish: &str| {
        writeln!(ask, "{wish}").expect("it listens");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("it answers");
        answer.trim().to_owned()
    };
    // Numbers that are free below the highest count as well.
    for wish in ["open", "open", "open", "close first"] {
        assert_eq!(say(wish), "ok", "{wish}");
    }
    let (open, before) = (Resource::Descriptors, process.limit(Resource::Descriptors).expect("a limit"));
    let used = process.used(open).expect("a number");
    let limit = process.limit_with_spare(open, 2).expect("a number");
    process.set_limit(open, Some(limit)).expect("it can be limited");
    assert_eq!(process.limit(open).expect("a limit"), limit);
    assert_eq!([say("open"), say("open")], ["ok", "ok"]);
    let refused = say("open");
    assert!(refused.contains("Too many open files"), "{refused}");
    assert_eq!(process.used(open).expect("a number"), used + 2);
    process.set_limit(open, None).expect("the limit can be lifted");
    assert_eq!((process.limit(open).expect("a limit"), say("open").as_str()), (before, "ok"));

    let memory = Resource::Memory;
    let limit = process.limit_with_spare(memory, 8 << 20).expect("a number");
    process.set_limit(memory, Some(limit)).expect("it can be limited");
    assert_eq!(process.limit(memory).expect("a limit"), limit);
    assert_eq!(say("take 4000000"), "ok");
    let refused = say("take 8000000");
    assert!(refused.contains("memory allocation failed"), "{refused}");
    process.set_limit(memory, None).expect("the limit can be lifted");
    assert_eq!((process.limit(memory).expect("a limit"), say("take 8000000").as_str()), (u64::MAX, "ok"));
    process.kill().expect("it can be killed");
    assert!(process.used(memory).is_err() && process.set_limit(memory, Some(1)).is_err());
}
