//! The undo journal: what this program does to the machine outside a sandbox, and would outlive
//! it, is written down before it is done, and struck out once it is undone. `duress cleanup` undoes
//! what is left of controllers that are gone.
//!
//! One file for each entry, in a directory that only this user can enter. A file appears by a
//! rename, so that there are no halves; links are never followed, and what somebody else owns is
//! never read.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duress_local::Identity;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

/// The version of the entries' format.
const VERSION: u32 = 1;
/// No entry is longer, in bytes.
const MAX_ENTRY: u64 = 64 << 10;
/// No more entries are looked at.
const MAX_ENTRIES: usize = 10_000;
/// A half-written entry is left alone for so long: its writer may still be at it.
const HALF_WRITTEN: Duration = Duration::from_secs(60);

/// What is to be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Undo {
    /// Clocks of a process tell another time than the true one.
    Clocks {
        /// The process, as [`Identity`] writes it.
        process: String,
        /// Which clocks, by name.
        clocks: Vec<String>,
    },
    /// A control group was made.
    Cgroup {
        /// Its directory.
        path: PathBuf,
    },
}

/// An entry, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    version: u32,
    /// Who made it and is to undo it, as [`Identity`] writes it.
    pub(crate) controller: String,
    pub(crate) undo: Undo,
}

/// The journal of this user.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
}

/// An entry in the journal. It stays there, whatever becomes of this program, until it is
/// [struck out](Noted::undone).
#[derive(Debug)]
#[must_use = "what is noted is to be undone, and then struck out"]
pub(crate) struct Noted {
    path: PathBuf,
}

impl Noted {
    /// Strikes the entry out. That it is gone already is no error.
    pub(crate) fn undone(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// What the journal holds under one name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// The entry, or why it can't be had.
    pub(crate) entry: Result<Entry, String>,
}

impl Found {
    /// A handle to strike it out.
    pub(crate) fn noted(&self) -> Noted {
        Noted { path: self.path.clone() }
    }
}

impl Journal {
    /// This user's journal: in the directory that the system keeps for what lasts as long as the
    /// user is logged in, else in the one for temporary files.
    pub(crate) fn of_this_user() -> Journal {
        let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|given| Path::new(given).is_absolute());
        let user = geteuid();
        let usual = || Some(OsString::from(format!("/run/user/{user}"))).filter(|usual| Path::new(usual).is_dir());
        let directory = match given.or_else(usual) {
            Some(own) => Path::new(&own).join("duress"),
            None => Path::new("/tmp").join(format!("duress-{user}")),
        };
        Journal { directory }
    }

    /// A journal elsewhere.
    #[cfg(test)]
    fn at(directory: PathBuf) -> Journal {
        Journal { directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Notes what is about to be done.
    pub(crate) fn note(&self, undo: Undo) -> io::Result<Noted> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => self.check_owner()?,
        }
        let controller = Identity::own()?.to_string();
        let name = format!("{controller}.{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let text = serde_json::to_vec(&Entry { version: VERSION, controller, undo }).map_err(io::Error::other)?;
        let half = self.directory.join(format!(".{name}.half"));
        let options = OFlag::O_NOFOLLOW.bits();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(options).open(&half)?;
        let path = self.directory.join(format!("{name}.json"));
        let written = file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&half, &path));
        if let Err(e) = written {
            // It says nothing yet, so what can't be removed does no harm.
            let _ = fs::remove_file(&half);
            return Err(e);
        }
        Ok(Noted { path })
    }

    /// Everything in the journal, in the order of the names.
    pub(crate) fn entries(&self) -> io::Result<Vec<Found>> {
        let listed = match fs::symlink_metadata(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
            Ok(_) => {
                self.check_owner()?;
                fs::read_dir(&self.directory)?
            }
        };
        let mut paths = Vec::new();
        for entry in listed.take(MAX_ENTRIES) {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("half") => forget_half(&path)?,
                Some("json") => paths.push(path),
                _ => {}
            }
        }
        paths.sort();
        Ok(paths.into_iter().map(|path| Found { entry: read(&path), path }).collect())
    }

    /// The directory must be this user's alone, and no link: in a directory for temporary files
    /// anybody could have put it there.
    fn check_owner(&self) -> io::Result<()> {
        let seen = fs::symlink_metadata(&self.directory)?;
        let wrong = if !seen.is_dir() {
            "is no directory"
        } else if seen.uid() != geteuid().as_raw() {
            "belongs to somebody else"
        } else if seen.mode() & 0o077 != 0 {
            "is open to others"
        } else {
            return Ok(());
        };
        let message = format!("{} {wrong}; remove it, or set XDG_RUNTIME_DIR", self.directory.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}

/// Removes a half-written entry whose writer has had all the time it could need.
fn forget_half(path: &Path) -> io::Result<()> {
    let written = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?.modified()?,
    };
    if written.elapsed().is_ok_and(|age| age > HALF_WRITTEN) {
        return Noted { path: path.into() }.undone();
    }
    Ok(())
}

fn read(path: &Path) -> Result<Entry, String> {
    let failed = |e: io::Error| e.to_string();
    let options = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file: File = OpenOptions::new().read(true).custom_flags(options.bits()).open(path).map_err(failed)?;
    let seen = file.metadata().map_err(failed)?;
    if !seen.is_file() || seen.uid() != geteuid().as_raw() {
        return Err("it is no file of this user".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_ENTRY + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_ENTRY {
        return Err(format!("it is longer than {MAX_ENTRY} bytes"));
    }
    let entry: Entry = serde_json::from_slice(&bytes).map_err(|e| format!("it can't be understood: {e}"))?;
    match entry.version {
        VERSION => Ok(entry),
        other => Err(format!("it was written by another version of this program ({other})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn fresh() -> (tempfile::TempDir, Journal) {
        let parent = tempfile::tempdir().unwrap();
        let journal = Journal::at(parent.path().join("duress"));
        (parent, journal)
    }

    fn cgroup(path: &str) -> Undo {
        Undo::Cgroup { path: path.into() }
    }

    #[test]
    fn what_is_noted_is_there_until_it_is_undone() {
        let (_parent, journal) = fresh();
        assert!(journal.entries().unwrap().is_empty(), "a journal that was never used");
        let clocks = Undo::Clocks { process: "7.1.1.boot".into(), clocks: vec!["realtime".into()] };
        let first = journal.note(clocks.clone()).unwrap();
        let second = journal.note(cgroup("/sys/fs/cgroup/duress-1")).unwrap();
        let found = journal.entries().unwrap();
        let undo: Vec<Undo> = found.iter().map(|found| found.entry.clone().unwrap().undo).collect();
        assert_eq!(undo, [clocks, cgroup("/sys/fs/cgroup/duress-1")]);
        let own = Identity::own().unwrap().to_string();
        assert!(found.iter().all(|found| found.entry.as_ref().unwrap().controller == own));
        first.undone().unwrap();
        assert_eq!(journal.entries().unwrap().len(), 1);
        found[1].noted().undone().unwrap();
        second.undone().unwrap();
        assert!(journal.entries().unwrap().is_empty());
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        let (parent, journal) = fresh();
        let elsewhere = parent.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &journal.directory).unwrap();
        assert!(journal.note(cgroup("/x")).is_err() && journal.entries().is_err(), "a link");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        fs::remove_file(&journal.directory).unwrap();
        fs::create_dir(&journal.directory).unwrap();
        fs::set_permissions(&journal.directory, fs::Permissions::from_mode(0o777)).unwrap();
        let error = journal.note(cgroup("/x")).unwrap_err().to_string();
        assert!(error.contains("open to others"), "{error}");
        fs::remove_dir(&journal.directory).unwrap();
        fs::write(&journal.directory, "").unwrap();
        assert!(journal.entries().is_err(), "a file");
    }

    #[test]
    fn rubbish_is_told_and_no_link_is_followed() {
        let (parent, journal) = fresh();
        drop(journal.note(cgroup("/x")).unwrap());
        let place = |name: &str| journal.directory.join(name);
        let target = parent.path().join("target");
        fs::copy(&journal.entries().unwrap()[0].path, &target).unwrap();
        symlink(&target, place("a.json")).unwrap();
        fs::write(place("b.json"), "{").unwrap();
        fs::write(place("c.json"), vec![b' '; MAX_ENTRY as usize + 1]).unwrap();
        fs::create_dir(place("d.json")).unwrap();
        let text = fs::read_to_string(&target).unwrap();
        fs::write(place("e.json"), text.replace("\"version\":1", "\"version\":2")).unwrap();
        nix::unistd::mkfifo(&place("f.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(place(".new.half"), "").unwrap();
        let found = journal.entries().unwrap();
        let good: Vec<bool> = found.iter().map(|found| found.entry.is_ok()).collect();
        // Names of our own begin with a digit.
        assert_eq!(good, [true, false, false, false, false, false, false], "{found:?}");
        assert!(place(".new.half").exists(), "its writer may still be at it");
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(place(".new.half")).unwrap().set_modified(old).unwrap();
        journal.entries().unwrap();
        assert!(!place(".new.half").exists());
    }
}
