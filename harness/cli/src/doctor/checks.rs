//! The checks themselves: each really tries what it tells of, and leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use duress_clock::{Change, Clock, skew};
use nix::sys::resource::{Resource, getrlimit};

use super::{Check, Lack, State};
use crate::journal::{Journal, Undo};

/// Nothing here waits longer for an answer of another program.
const PATIENCE: Duration = Duration::from_secs(3);
/// By how much the clock of an own child is set ahead.
const JUMP: Duration = Duration::from_secs(3600);
/// Runs open this many files, more or less, and leave room for a target's own.
const MIN_DESCRIPTORS: u64 = 1024;
/// A sync is timed so often at most, and for so long altogether.
const SYNCS: (usize, Duration) = (30, Duration::from_secs(1));
/// Nodes sync before they acknowledge anything: slower than this, little is acknowledged.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// Everything that is checked, in the order in which it is shown.
pub(super) fn all(out: &Path) -> Vec<Check> {
    let mut checks: Vec<Check> = duress_local::preflight().checks.into_iter().map(of_the_sandbox).collect();
    checks.extend([
        Check::needed("open files", "every run", descriptors()),
        Check::optional("a disk that syncs quickly", "runs that acknowledge much", syncs(out)),
        Check::optional("clock patching", "faults of clocks", clock_patching()),
        Check::optional("control groups (v2) with a CPU and a memory controller", "programs under a quota", cgroups()),
        Check::optional("a Docker engine", "targets in containers", docker()),
        Check::optional("KVM", "targets in virtual machines, at full speed", kvm()),
        Check::optional("tshark", "reading captures of the network (any reader of pcapng will do)", tshark()),
    ]);
    checks
}

fn of_the_sandbox(check: duress_local::Check) -> Check {
    Check {
        name: check.name.into(),
        state: match (check.ok, check.optional) {
            (true, _) => State::Ok,
            (false, true) => State::Optional,
            (false, false) => State::Lacking,
        },
        needed_for: check.needed_for.into(),
        found: check.missing,
        fix: check.fix,
    }
}

fn descriptors() -> Result<String, Lack> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| Lack::new(e, ""))?;
    if soft >= MIN_DESCRIPTORS {
        return Ok(format!("up to {soft}"));
    }
    let fix = match hard >= MIN_DESCRIPTORS {
        true => format!("Run `ulimit -n {MIN_DESCRIPTORS}` before"),
        false => format!("Raise the hard limit: `sudo prlimit --pid $$ --nofile={MIN_DESCRIPTORS}`, or limits.conf(5)"),
    };
    Err(Lack::new(format!("at most {soft}"), fix))
}

/// How long the disk under the run directory takes to make a small write durable.
fn syncs(out: &Path) -> Result<String, Lack> {
    let place = out.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("."));
    let refused = |e: io::Error| {
        let fix = "Choose another place with --out, on a disk that can be written to";
        Lack::new(format!("{}: {e}", place.display()), fix)
    };
    let median = sync_time(place).map_err(refused)?;
    let found = format!("{:.2} ms a sync in {}", median.as_secs_f64() * 1e3, place.display());
    if median > SLOW_SYNC {
        let fix = "Nodes will be slow to acknowledge: keep runs elsewhere with --out, such as on an SSD or in /dev/shm";
        return Err(Lack::new(found, fix));
    }
    Ok(found)
}

/// The median time of a small write and its sync.
fn sync_time(place: &Path) -> io::Result<Duration> {
    let path = place.join(format!(".duress-doctor-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    // It has no name from here on, so nothing is left however this ends.
    fs::remove_file(&path)?;
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < SYNCS.0 && (times.is_empty() || began.elapsed() < SYNCS.1) {
        let before = Instant::now();
        file.write_all(&[0x55; 512])?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Skews an own child's clock and has it tell the time.
fn clock_patching() -> Result<String, Lack> {
    let mut teller = Teller::start().map_err(|e| Lack::new(format!("can't start a child: {e}"), ""))?;
    let silent = |e: io::Error| Lack::new(format!("the child doesn't tell the time: {e}"), "");
    let before = teller.ask().map_err(silent)?;
    let jump = Change::Jump(JUMP.as_nanos() as i64);
    skew(teller.0.id() as i32, &[(Clock::Realtime, jump)]).map_err(|e| {
        let fix = "Tracing of own children must be allowed: not with kernel.yama.ptrace_scope=3, nor by a seccomp \
                   policy; in a container, `--security-opt seccomp=unconfined --cap-add SYS_PTRACE`";
        Lack::new(e, fix)
    })?;
    let after = teller.ask().map_err(silent)?;
    let seen = after.saturating_sub(before);
    if seen < JUMP || seen > JUMP + PATIENCE + PATIENCE {
        return Err(Lack::new(format!("a child that was set {JUMP:?} ahead saw {seen:?} pass"), ""));
    }
    Ok(format!("a child's clock was set ahead, and {:.3} s passed for it", seen.as_secs_f64()))
}

/// A child that tells the time when asked.
struct Teller(Child);

impl Teller {
    fn start() -> io::Result<Teller> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("tell-time").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map(Teller)
    }

    /// The time that it has, since 1970.
    fn ask(&mut self) -> io::Result<Duration> {
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        self.0.stdin.as_mut().ok_or_else(ended)?.write_all(b"\n")?;
        let output = self.0.stdout.as_mut().ok_or_else(ended)?;
        let mut answer = Vec::new();
        // It says one line for each that it reads, so nothing is lost in this buffer.
        BufReader::new(output).take(64).read_until(b'\n', &mut answer)?;
        let nanos =
            std::str::from_utf8(&answer).ok().and_then(|text| text.trim_end().parse().ok()).ok_or_else(ended)?;
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child's side: tells the time for each line that comes, until none comes any more.
pub(crate) fn tell_time() -> io::Result<()> {
    let mut output = io::stdout();
    for line in BufReader::new(io::stdin()).lines() {
        line?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        writeln!(output, "{}", now.as_nanos())?;
        output.flush()?;
    }
    Ok(())
}

/// Makes a control group below this process's own, sees what it offers, and removes it.
fn cgroups() -> Result<String, Lack> {
    let delegate = "Runs don't need it. To have it: start this under `systemd-run --user --scope -p Delegate=yes`";
    let read = |path: &str| fs::read_to_string(path).map_err(|e| Lack::new(format!("{path}: {e}"), ""));
    // "0::/path" in the one, "… /mount/point … - cgroup2 …" in the other.
    let own = read("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/').to_owned();
    let mounts = read("/proc/self/mountinfo")?;
    let mounted = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(mounted) = mounted.and_then(|line| line.split(' ').nth(4)) else {
        return Err(Lack::new("no cgroup2 file system is mounted", delegate));
    };
    let path = Path::new(mounted).join(own).join(format!("duress-{}", std::process::id()));
    let refused = |e: io::Error| Lack::new(format!("{}: {e}", path.display()), delegate);
    let noted = Journal::of_this_user().note(Undo::Cgroup { path: path.clone() }).map_err(refused)?;
    let made = fs::create_dir(&path);
    let there = |file: &str| path.join(file).exists();
    let lacking: Vec<&str> = ["cpu.max", "memory.max"].into_iter().filter(|file| !there(file)).collect();
    let removed = if made.is_ok() { fs::remove_dir(&path) } else { Ok(()) };
    removed.and_then(|()| noted.undone()).and(made).map_err(refused)?;
    match lacking.is_empty() {
        true => Ok(format!("{} can be divided", path.parent().unwrap_or(Path::new("/")).display())),
        false => Err(Lack::new(format!("no {} in a new group", lacking.join(" and no ")), delegate)),
    }
}

/// Asks the engine whether it is there.
fn docker() -> Result<String, Lack> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let fix = "Runs don't need it. Start it with `sudo systemctl start docker`, and add yourself to the group docker";
    let Some(socket) = host.strip_prefix("unix://") else {
        return Err(Lack::new(format!("DOCKER_HOST is {host}, which is not on this machine"), "Unset DOCKER_HOST"));
    };
    let answer = ping(Path::new(socket)).map_err(|e| Lack::new(format!("{socket}: {e}"), fix))?;
    let version = answer.lines().find_map(|line| line.strip_prefix("Api-Version: "));
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(format!("it answers (API {})", version.unwrap_or("unknown").trim())),
        false => Err(Lack::new(format!("{socket} answers {:?}", answer.lines().next().unwrap_or_default()), fix)),
    }
}

fn ping(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

nix::ioctl_write_int_bad!(
    /// Asks /dev/kvm for the version of its interface; takes a zero.
    kvm_version,
    nix::request_code_none!(0xAE, 0x00)
);

/// Opens KVM and asks for its version; looks for QEMU, which can do without it, slowly.
#[expect(unsafe_code, reason = "asking KVM for its version is an ioctl")]
fn kvm() -> Result<String, Lack> {
    use std::os::fd::AsRawFd;
    let qemu = format!("qemu-system-{}", std::env::consts::ARCH);
    let emulated = match program(&qemu) {
        Some(_) => format!("{qemu} can only emulate, slowly"),
        None => format!("no {qemu} either"),
    };
    let fix = "Runs don't need it. `sudo modprobe kvm_intel` or `kvm_amd`, and add yourself to the group kvm; in a \
               virtual machine, nested virtualization must be on";
    let refused = |e: io::Error| Lack::new(format!("/dev/kvm: {e}; {emulated}"), fix);
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let device = device.map_err(refused)?;
    // SAFETY: this request takes a zero and no memory, and the descriptor is open.
    let version = unsafe { kvm_version(device.as_raw_fd(), 0) }.map_err(|e| refused(e.into()))?;
    match program(&qemu) {
        Some(path) => Ok(format!("version {version}, and {}", path.display())),
        None => Err(Lack::new(
            format!("version {version}, but no {qemu}"),
            "Runs don't need it. `sudo apt install qemu-system`, or what your distribution calls it",
        )),
    }
}

fn tshark() -> Result<String, Lack> {
    let path = program("tshark").ok_or_else(|| Lack::new("not in PATH", "`sudo apt install tshark`"))?;
    Ok(path.display().to_string())
}

/// Where a program is, by `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(runs)
}
