//! Naming a process so that no later one with the same number can be taken for it.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

/// A process of one boot of one machine: its number, when it was started, and where that number
/// holds. As text it is `pid.start.namespace.boot`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pid: u32,
    /// In clock ticks since the machine's boot.
    start: u64,
    /// The PID namespace, by the number of its inode.
    namespace: u64,
    boot: String,
}

/// What is known of the process that an [`Identity`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is there.
    Alive,
    /// It has ended, whoever has its number now.
    Over,
    /// Its number belongs to another PID namespace, from which it can't be seen here.
    Elsewhere,
}

impl Identity {
    /// This process's own.
    ///
    /// # Errors
    /// If /proc can't be read.
    pub fn own() -> io::Result<Identity> {
        Identity::of(std::process::id())
    }

    /// That of a process in this PID namespace.
    ///
    /// # Errors
    /// `NotFound` if there is none, or what /proc says.
    pub fn of(pid: u32) -> io::Result<Identity> {
        let (start, _) = stat(pid)?;
        Ok(Identity { pid, start, namespace: namespace()?, boot: boot()? })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is still there. One that has ended and was not reaped is over.
    ///
    /// # Errors
    /// If /proc can't be read.
    pub fn life(&self) -> io::Result<Life> {
        if self.boot != boot()? {
            return Ok(Life::Over);
        }
        if self.namespace != namespace()? {
            return Ok(Life::Elsewhere);
        }
        match stat(self.pid) {
            Ok((start, state)) if start == self.start && !matches!(state, b'Z' | b'X') => Ok(Life::Alive),
            Ok(_) => Ok(Life::Over),
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => Ok(Life::Over),
            Err(e) => Err(e),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.pid, self.start, self.namespace, self.boot)
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Identity, String> {
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let identity = match parts[..] {
            [pid, start, namespace, boot] if !boot.is_empty() && boot.len() <= 64 => pid
                .parse()
                .ok()
                .zip(start.parse().ok())
                .zip(namespace.parse().ok())
                .map(|((pid, start), namespace)| Identity { pid, start, namespace, boot: boot.into() }),
            _ => None,
        };
        identity.ok_or_else(|| "a process is named pid.start.namespace.boot".into())
    }
}

/// When a process was started, and its state.
fn stat(pid: u32) -> io::Result<(u64, u8)> {
    let bytes = fs::read(format!("/proc/{pid}/stat"))?;
    // The second field, the name, may itself hold spaces and brackets.
    let after_name = bytes.iter().rposition(|b| *b == b')').map(|at| at + 1);
    let rest = after_name.and_then(|at| std::str::from_utf8(bytes.get(at..)?).ok()).unwrap_or_default();
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next().and_then(|state| state.bytes().next());
    // Of the whole line it is the 22nd field; of the rest after the name the 20th.
    let start = fields.nth(18).and_then(|start| start.parse().ok());
    state
        .zip(start)
        .map(|(state, start)| (start, state))
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat can't be understood")))
}

fn namespace() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let own = Identity::own().expect("this process");
        assert_eq!(own.life().expect("/proc"), Life::Alive);
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        let earlier = Identity { start: own.start - 1, ..own.clone() };
        assert_eq!(earlier.life().expect("/proc"), Life::Over);
        let before_boot = Identity { boot: "another".into(), ..own.clone() };
        assert_eq!(before_boot.life().expect("/proc"), Life::Over);
        let elsewhere = Identity { namespace: own.namespace + 1, ..own };
        assert_eq!(elsewhere.life().expect("/proc"), Life::Elsewhere);
    }

    #[test]
    fn a_process_that_was_not_reaped_is_over() {
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let identity = Identity::of(child.id()).expect("the child");
        let mut seen = identity.life().expect("/proc");
        for _ in 0..1_000 {
            if seen == Life::Over {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            seen = identity.life().expect("/proc");
        }
        assert_eq!(seen, Life::Over);
        child.wait().expect("its end");
        assert_eq!(identity.life().expect("/proc"), Life::Over);
    }

    #[test]
    fn rubbish_names_no_process() {
        for text in ["", "1", "1.2.3", "1.2.3.", "a.2.3.b", "-1.2.3.b", "99999999999.1.1.b"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
        assert!(format!("1.2.3.{}", "b".repeat(65)).parse::<Identity>().is_err());
    }
}
