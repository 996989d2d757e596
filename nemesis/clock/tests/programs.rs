//! Real programs that nobody here wrote the runtime of: each must see the jump, the drift and, after
//! the heal, the true time. What a machine lacks is skipped loudly; in CI nothing may be lacking.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use duress_clock::{Change, Clock, ClockError, family, read, skew, watch};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// A program that answers each line with its wall clock and its monotonic clock.
struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(command: &mut Command) -> Program {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let stdin = child.stdin.take().expect("stdin");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let mut program = Program { child, stdin, stdout };
        // Interpreters take their time to start.
        program.ask();
        program
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn ask(&mut self) -> (i64, i64) {
        writeln!(self.stdin).expect("the program reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the program answers");
        let mut numbers = line.split_ascii_whitespace().map(|n| n.parse().unwrap_or_else(|_| panic!("{line:?}")));
        (numbers.next().expect("wall"), numbers.next().expect("monotonic"))
    }

    /// What it says of its wall clock, and the true time of that moment: the best of some tries.
    fn wall(&mut self) -> (i64, i64) {
        nearest(|| self.ask().0)
    }

    fn monotonic(&mut self) -> (i64, i64) {
        nearest(|| self.ask().1)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn true_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as i64
}

/// A clock's answer and the true time of about that moment, of the quickest of 30 answers.
fn nearest(mut ask: impl FnMut() -> i64) -> (i64, i64) {
    let one = |_| {
        let before = true_now();
        let told = ask();
        let after = true_now();
        (after - before, told, before + (after - before) / 2)
    };
    let best = (0..30).map(one).min_by_key(|(took, ..)| *took).expect("some");
    (best.1, best.2)
}

/// Jump, drift and heal, of a wall clock that answers in steps of `resolution` ns.
fn sees_everything(name: &str, pid: i32, resolution: i64, mut wall: impl FnMut() -> (i64, i64)) {
    let ahead = |(told, at): (i64, i64)| told - at;
    let close = |what: &str, is: i64, should: i64| {
        assert!((is - should).abs() < 20 * MS + resolution, "{name}, {what}: {is} ns ahead and not {should}");
    };
    close("before", ahead(wall()), 0);
    let hour = 3_600 * SECOND;
    skew(pid, &[(Clock::Realtime, Change::Jump(hour))]).expect("jump");
    close("a jump ahead", ahead(wall()), hour);
    skew(pid, &[(Clock::Realtime, Change::Jump(-2 * hour))]).expect("jump back");
    close("a jump back", ahead(wall()), -hour);

    skew(pid, &[(Clock::Realtime, Change::Rate(50_000.0))]).expect("drift");
    let (told, at) = wall();
    thread::sleep(Duration::from_secs(2));
    let (told_later, at_later) = wall();
    let ppm = ((told_later - told) as f64 / (at_later - at) as f64 - 1.0) * 1e6;
    let tolerance = 50.0 + 2.0 * resolution as f64 / 2e9 * 1e6 + 50.0;
    assert!((ppm - 50_000.0).abs() < tolerance, "{name}: drifts by {ppm} ppm");

    skew(pid, &[(Clock::Realtime, Change::Freeze)]).expect("freeze");
    let frozen = wall().0;
    thread::sleep(Duration::from_millis(30));
    assert_eq!(wall().0, frozen, "{name}: a frozen clock runs");

    let state = read(pid).expect("its state");
    assert!(state.replaced && state.of(Clock::Realtime).reads > 0, "{name}: {state:?}");
    let healed = skew(pid, &[(Clock::Realtime, Change::Reset)]).expect("reset");
    assert!(!healed.replaced, "{name}: {healed:?}");
    close("after the heal", ahead(wall()), 0);
    let reads = read(pid).expect("its state").of(Clock::Realtime).reads;
    wall();
    assert_eq!(read(pid).expect("its state").of(Clock::Realtime).reads, reads, "{name}: still replaced");
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// Whether a program is there. In CI it must be.
fn has(program: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    assert!(there || std::env::var_os("CI").is_none(), "CI needs {program}");
    if !there {
        eprintln!("SKIPPED: there is no {program} here");
    }
    there
}

fn compiled(folder: &Path, flags: &[&str]) -> PathBuf {
    let out = folder.join("clock");
    let status =
        Command::new("cc").args(["-O2", "-o"]).arg(&out).arg(source("clock.c")).arg("-pthread").args(flags).status();
    assert!(status.expect("a C compiler").success());
    out
}

#[test]
fn a_static_c_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&mut Command::new(compiled(folder.path(), &["-static"])));
    sees_everything("static C", program.pid(), 1, || program.wall());
}

#[test]
fn a_dynamic_c_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&mut Command::new(compiled(folder.path(), &[])));
    sees_everything("dynamic C", program.pid(), 1, || program.wall());
}

#[test]
fn python() {
    if has("python3") {
        let mut program = Program::start(Command::new("python3").arg(source("clock.py")));
        // A launcher may stand before the interpreter.
        let pid = *family(program.pid()).last().expect("itself");
        sees_everything("python3", pid, 1, || program.wall());
    }
}

#[test]
fn perl() {
    if has("perl") {
        let mut program = Program::start(Command::new("perl").arg(source("clock.pl")));
        sees_everything("perl", program.pid(), 1_000, || program.wall());
    }
}

#[test]
fn java() {
    if has("java") && has("javac") {
        let folder = tempfile::tempdir().expect("a folder");
        let status = Command::new("javac").arg("-d").arg(folder.path()).arg(source("Clock.java")).status();
        assert!(status.expect("javac").success());
        let mut program = Program::start(Command::new("java").args(["-Xint", "-cp"]).arg(folder.path()).arg("Clock"));
        sees_everything("java", program.pid(), 1_000, || program.wall());
    }
}

#[test]
fn go() {
    if has("go") {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("clock");
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&out).arg(source("clock.go"));
        build.env("GOCACHE", folder.path().join("cache")).env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off");
        assert!(build.status().expect("go").success());
        let mut program = Program::start(&mut Command::new(&out));
        sees_everything("go", program.pid(), 1, || program.wall());
    }
}

#[test]
fn redis() {
    if has("redis-server") {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).arg("--dir").arg(folder.path());
        let mut child = command.stdout(Stdio::null()).spawn().expect("redis-server");
        let connected = (0..200).find_map(|_| {
            thread::sleep(Duration::from_millis(50));
            UnixStream::connect(&socket).ok()
        });
        let mut stream = connected.expect("redis-server listens");
        let pid = child.id() as i32;
        // TIME answers "*2\r\n$10\r\nseconds\r\n$n\r\nmicroseconds\r\n".
        let wall = || {
            nearest(|| {
                stream.write_all(b"TIME\r\n").expect("redis reads");
                let mut text = String::new();
                while text.matches("\r\n").count() < 5 {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("redis answers");
                    text.push(char::from(byte[0]));
                }
                let lines: Vec<&str> = text.split("\r\n").collect();
                let number = |at: usize| lines[at].parse::<i64>().expect("a number");
                number(2) * SECOND + number(4) * 1_000
            })
        };
        sees_everything("redis-server", pid, 1_000, wall);
        child.kill().expect("redis-server ends");
        child.wait().expect("redis-server ended");
    }
}

#[test]
fn a_monotonic_clock_never_runs_backwards() {
    let folder = tempfile::tempdir().expect("a folder");
    // Its two threads end the program if they see a clock run backwards.
    let mut program = Program::start(Command::new(compiled(folder.path(), &[])).arg("2"));
    let pid = program.pid();
    let mono = |change| skew(pid, &[(Clock::Monotonic, change)]);
    let (told, at) = program.monotonic();
    let before = told - at;
    mono(Change::Rate(1e6)).expect("twice as fast");
    thread::sleep(Duration::from_millis(500));
    mono(Change::Rate(-500_000.0)).expect("half as fast");
    thread::sleep(Duration::from_millis(100));
    mono(Change::Jump(SECOND)).expect("ahead");
    assert!(matches!(mono(Change::Jump(-1)), Err(ClockError::Backwards(Clock::Monotonic, _))));
    let strobe = Change::Strobe { by: SECOND, every: Duration::from_millis(1) };
    assert!(matches!(mono(strobe), Err(ClockError::Backwards(..))));
    let healed = mono(Change::Reset).expect("reset");
    let kept = healed.of(Clock::Monotonic);
    assert!(kept.skewed && kept.rate_ppm == 0.0, "it keeps what it is ahead: {kept:?}");
    let (told, at) = program.monotonic();
    let ahead = told - at - before;
    assert!((ahead - kept.ahead_ns).abs() < 20 * MS, "{ahead} and not {kept:?}");
    // About 500 ms - 50 ms + 1 s; sleeps may take longer on a busy machine.
    assert!((1_200 * MS..10_000 * MS).contains(&ahead), "{ahead}");
    // The wall clock never noticed.
    let (told, at) = program.wall();
    assert!((told - at).abs() < 20 * MS);
}

#[test]
fn a_strobe_flips() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&mut Command::new(compiled(folder.path(), &[])));
    let strobe = Change::Strobe { by: -10 * SECOND, every: Duration::from_millis(20) };
    skew(program.pid(), &[(Clock::Realtime, strobe)]).expect("strobe");
    let (mut near, mut far) = (0, 0);
    for _ in 0..200 {
        let ahead = program.ask().0 - true_now();
        if ahead > -5 * SECOND {
            near += 1
        } else {
            far += 1
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(near > 20 && far > 20, "{near} near, {far} far");
}

/// A thousand cycles on a process whose 16 threads do nothing but read clocks.
#[test]
fn patching_never_crashes_a_busy_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(Command::new(compiled(folder.path(), &[])).arg("16"));
    let pid = program.pid();
    for cycle in 0..1_000 {
        skew(pid, &[(Clock::Realtime, Change::Jump(SECOND))]).unwrap_or_else(|e| panic!("cycle {cycle}: {e}"));
        skew(pid, &[(Clock::Realtime, Change::Reset)]).unwrap_or_else(|e| panic!("cycle {cycle}: {e}"));
    }
    let (told, at) = program.wall();
    assert!((told - at).abs() < 50 * MS, "{}", told - at);
    assert!(program.child.try_wait().expect("its state").is_none(), "it is gone");
}

#[test]
fn a_stopped_process_stays_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&mut Command::new(compiled(folder.path(), &[])));
    let pid = nix::unistd::Pid::from_raw(program.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("stop");
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).expect("a state")
    };
    let stopped = || {
        (0..100).any(|_| {
            thread::sleep(Duration::from_millis(5));
            state() == 'T'
        })
    };
    assert!(stopped());
    skew(program.pid(), &[(Clock::Realtime, Change::Jump(-SECOND))]).expect("jump");
    assert!(stopped(), "{}", state());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).expect("go on");
    let (told, at) = program.wall();
    assert!((told - at + SECOND).abs() < 20 * MS);
}

#[test]
fn what_can_t_be_done_is_said() {
    assert!(matches!(skew(i32::MAX, &[(Clock::Realtime, Change::Freeze)]), Err(ClockError::Gone(_))));
    let wild = Change::Rate(f64::NAN);
    assert!(matches!(skew(1, &[(Clock::Realtime, wild)]), Err(ClockError::Range(_))));
    let far = Change::Jump(i64::MIN);
    assert!(matches!(skew(1, &[(Clock::Realtime, far)]), Err(ClockError::Range(_))));
}

#[test]
fn a_child_by_fork_inherits_and_a_program_it_executes_does_not() {
    if !has("python3") {
        return;
    }
    let script = "import os,sys,time\nfor line in sys.stdin:\n r,w=os.pipe()\n pid=os.fork()\n \
                  if pid==0:\n  os.write(w,str(time.time_ns()).encode()); os._exit(0)\n \
                  os.waitpid(pid,0); print(os.read(r,99).decode(), 0, flush=True)\n";
    let mut program = Program::start(Command::new("python3").args(["-c", script]));
    let pid = *family(program.pid()).last().expect("itself");
    skew(pid, &[(Clock::Realtime, Change::Jump(77 * SECOND))]).expect("jump");
    let ahead = program.ask().0 - true_now();
    assert!((ahead - 77 * SECOND).abs() < SECOND, "{ahead}");
}

#[test]
fn a_watch_sees_reads_rates_and_flips() {
    let folder = tempfile::tempdir().expect("a folder");
    // Its thread reads clocks all the time.
    let mut program = Program::start(Command::new(compiled(folder.path(), &[])).arg("1"));
    let (pid, long) = (program.pid(), Duration::from_secs(20));
    let strobe = Change::Strobe { by: SECOND, every: Duration::from_millis(5) };
    skew(pid, &[(Clock::Realtime, strobe), (Clock::Monotonic, Change::Rate(500.0))]).expect("skewed");
    let seen = watch(pid, long, |seen| {
        seen.range(Clock::Realtime) == (0, SECOND) && seen.took(Clock::Monotonic) > SECOND / 50
    });
    let seen = seen.expect("watched");
    assert_eq!(seen.range(Clock::Realtime), (0, SECOND));
    assert!(seen.reads(Clock::Realtime) > 0 && seen.reads(Clock::Monotonic) > 0 && seen.reads(Clock::Boottime) == 0);
    assert!((seen.ppm(Clock::Monotonic) - 500.0).abs() < 1.0, "{}", seen.ppm(Clock::Monotonic));
    assert_eq!(seen.ppm(Clock::Boottime), 0.0);
    // The program's own account agrees: half a thousandth more than passed.
    let (told, at) = program.monotonic();
    thread::sleep(Duration::from_millis(500));
    let (later, at_later) = program.monotonic();
    let ppm = ((later - told) as f64 / (at_later - at) as f64 - 1.0) * 1e6;
    assert!((ppm - 500.0).abs() < 400.0, "{ppm}");
}

/// What shows that a program is out of reach: it tells the time, and no read is counted.
#[test]
fn a_program_that_bypasses_the_vdso_is_found_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(Command::new(compiled(folder.path(), &[])).arg("raw"));
    skew(program.pid(), &[(Clock::Realtime, Change::Jump(3_600 * SECOND))]).expect("jump");
    let (told, at) = program.wall();
    assert!((told - at).abs() < 20 * MS, "it asks the kernel: {}", told - at);
    let seen = watch(program.pid(), Duration::from_millis(20), |_| false).expect("watched");
    assert_eq!(seen.reads(Clock::Realtime), 0);
    assert_eq!(seen.last.of(Clock::Realtime).reads, 0);
    assert_eq!(seen.range(Clock::Realtime), (3_600 * SECOND, 3_600 * SECOND), "what it would be told");
}
