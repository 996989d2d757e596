//! Processes that a sandbox has left behind, should that ever happen: they carry a mark that names
//! the controller they belong to, and that one is gone.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::identity::{Identity, Life};
use crate::local::pidfd::PidFd;

/// In this variable of their environment all processes of a sandbox carry the identity of the
/// process that entered it.
pub const MARK: &str = "DURESS_CONTROLLER";

/// An environment that is longer than this is not looked at: no run of ours has such a one.
const MAX_ENVIRONMENT: u64 = 4 << 20;
/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process whose controller is gone.
#[derive(Debug)]
pub struct Leftover {
    /// Its number in this PID namespace.
    pub pid: u32,
    /// What it was started as; empty if that can't be told.
    pub command: String,
    /// Who it belonged to.
    pub controller: Identity,
    handle: PidFd,
}

impl Leftover {
    /// Kills it, and waits until it is gone.
    ///
    /// # Errors
    /// If the kernel refuses, or it isn't gone after 5 s.
    pub fn end(&self) -> io::Result<()> {
        match self.handle.send(Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(e.into()),
        }
        match self.handle.ended(PATIENCE)? {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::TimedOut, "it is still there 5 s after SIGKILL")),
        }
    }
}

/// All processes of this user that carry the mark of a controller that is gone, in the order of
/// their numbers. Those of controllers in other PID namespaces are nobody's business here.
///
/// # Errors
/// If /proc can't be read.
pub fn leftovers() -> io::Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Any of these may fail because the process ends meanwhile, or is somebody else's.
        if pid != std::process::id()
            && let Ok(Some(leftover)) = look(pid)
        {
            found.push(leftover);
        }
    }
    found.sort_by_key(|leftover| leftover.pid);
    Ok(found)
}

fn look(pid: u32) -> io::Result<Option<Leftover>> {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    // The handle comes first: what is read below is then read of this process, or of none.
    let handle = PidFd::open(pid)?;
    if fs::metadata(format!("/proc/{pid}"))?.uid() != geteuid().as_raw() {
        return Ok(None);
    }
    let mut environment = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))?.take(MAX_ENVIRONMENT).read_to_end(&mut environment)?;
    let Some(controller) = marked(&environment) else { return Ok(None) };
    if controller.life()? != Life::Over || handle.ended(Duration::ZERO)? {
        return Ok(None);
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command: Vec<_> =
        command.split(|b| *b == 0).take(4).map(|word| std::ffi::OsStr::from_bytes(word).to_string_lossy()).collect();
    Ok(Some(Leftover { pid, command: command.join(" ").trim_end().into(), controller, handle }))
}

/// The controller that an environment names.
fn marked(environment: &[u8]) -> Option<Identity> {
    let mark = [MARK.as_bytes(), b"="].concat();
    let value = environment.split(|b| *b == 0).find_map(|variable| variable.strip_prefix(mark.as_slice()))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn sleeper(mark: Option<&str>) -> Killed {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null());
        match mark {
            Some(mark) => command.env(MARK, mark),
            None => command.env_remove(MARK),
        };
        // `spawn` returns when the new program runs, and with it the new environment.
        Killed(command.spawn().expect("sleep"))
    }

    #[test]
    fn only_processes_whose_controller_is_gone_are_left_over() {
        let mut dead = Command::new("sleep").arg("600").spawn().expect("sleep");
        let gone = Identity::of(dead.id()).expect("an identity").to_string();
        let own = Identity::own().expect("an identity").to_string();
        let elsewhere = {
            let parts: Vec<&str> = own.splitn(4, '.').collect();
            format!("{}.{}.1.{}", parts[0], parts[1], parts[3])
        };
        let left = sleeper(Some(&gone));
        let others = [sleeper(Some(&own)), sleeper(Some(&elsewhere)), sleeper(Some("rubbish")), sleeper(None)];
        let ours: Vec<u32> = others.iter().map(|other| other.0.id()).chain([left.0.id()]).collect();
        let seen = || {
            let all = leftovers().expect("/proc");
            all.into_iter().filter(|leftover| ours.contains(&leftover.pid)).collect::<Vec<_>>()
        };
        assert!(seen().is_empty(), "its controller is alive");
        dead.kill().and_then(|()| dead.wait()).expect("its end");
        let found = seen();
        assert_eq!(found.iter().map(|leftover| leftover.pid).collect::<Vec<_>>(), [left.0.id()]);
        assert_eq!(found[0].command, "sleep 600");
        assert_eq!(found[0].controller.to_string(), gone);
        found[0].end().expect("it can be ended");
        found[0].end().expect("twice, too");
        assert!(seen().is_empty());
    }
}
