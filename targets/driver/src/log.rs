//! The write-ahead log as a file.
//!
//! The bytes are those of [`duress_machine::wal`]; this module puts them on a disk so that what
//! was reported durable survives SIGKILL at any instruction and, as far as `fdatasync` keeps its
//! promise, a power cut. It knows nothing of what a record means.
//!
//! - The file is filled with zeros ahead of the records, so that `fdatasync` of an append has no
//!   metadata to write.
//! - Replacing the log writes `log.new`, syncs it, and renames it over `log`.
//! - After a failed write or sync the log must not be used again: what is on the disk is not
//!   known any more ("fsyncgate"), and only a restart's recovery finds out.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duress_machine::wal::{self, Damage, EncodeError, Recovered, Tail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The file of zeros grows by a half of what is used, within these bounds, in bytes.
const GROWTH: std::ops::RangeInclusive<u64> = 256 << 10..=4 << 20;

/// For so long a file is tried to be opened when there are no descriptors left.
const DESCRIPTOR_PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two attempts.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(20);

/// No log may be longer, in bytes. Machines keep theirs far shorter by snapshots.
pub const MAX_LOG: u64 = 4 << 30;

/// Why a log can't be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk or the file system failed.
    #[error("can't {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Data that was once durable is gone.
    #[error("{path} is damaged: {damage}", path = path.display())]
    Damaged {
        /// The log's file.
        path: PathBuf,
        /// What is wrong, and where.
        damage: Damage,
    },
    /// Another process uses the same directory.
    #[error("{path} is in use by another node", path = path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// A record can't be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The log would be longer than [`MAX_LOG`].
    #[error("{path} would be longer than the limit of {MAX_LOG} bytes", path = path.display())]
    Full {
        /// The log's file.
        path: PathBuf,
    },
}

/// Turns an IO error into a [`LogError`] that says what was being done.
fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { doing, path: path.to_path_buf(), source }
}

/// A node's log, open for appending. One process at a time.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    /// Records not yet handed to the file.
    buffer: Vec<u8>,
    /// Where the buffer goes: the length of the records in the file.
    written: u64,
    /// How much of the file is known to be durable.
    synced: u64,
    /// The file's length, zeros included.
    allocated: u64,
    /// Held while the log is open.
    _lock: File,
}

impl Log {
    /// Opens the log in `directory`, making both if need be, and reads its records, oldest first.
    ///
    /// A torn tail is cut off. Everything that is returned is durable: what had been written but
    /// not synced by an earlier life is written again and synced first, since the machine will
    /// rely on it.
    pub fn open<R: DeserializeOwned>(directory: &Path) -> Result<(Log, Vec<R>), LogError> {
        Log::open_with(directory, wal::recover)
    }

    /// Like [`open`](Log::open), but the bytes are read by `read`.
    pub fn open_with<R>(
        directory: &Path,
        read: impl FnOnce(&[u8]) -> Result<Recovered<R>, Damage>,
    ) -> Result<(Log, Vec<R>), LogError> {
        fs::create_dir_all(directory).map_err(failed("make the directory", directory))?;
        let lock = lock(directory)?;
        let leftover = directory.join("log.new");
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &leftover)(error)),
            _ => {}
        }
        let path = directory.join("log");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let recovered = read(&bytes).map_err(|damage| LogError::Damaged { path: path.clone(), damage })?;
        let length = recovered.length as u64;
        let mut allocated = length.max(bytes.len() as u64);
        if recovered.tail == Tail::Torn {
            // What a later append does not cover must not be taken for records one day.
            file.set_len(length).map_err(failed("cut the torn tail off", &path))?;
            allocated = length;
        }
        // After a sync that failed, Linux takes what it should have written for clean: it can be read,
        // and the next sync succeeds without it. Only what is written again is synced again.
        file.write_all_at(bytes.get(..recovered.length).unwrap_or(&bytes), 0).map_err(failed("write again", &path))?;
        file.sync_all().map_err(failed("sync", &path))?;
        sync_directory(directory)?;
        let log = Log {
            directory: directory.to_path_buf(),
            path,
            file,
            buffer: Vec::new(),
            written: length,
            synced: length,
            allocated,
            _lock: lock,
        };
        Ok((log, recovered.records))
    }

    /// Adds a record, in memory. It reaches the file with [`write`](Log::write) and the disk with
    /// [`sync`](Log::sync).
    pub fn append<R: Serialize>(&mut self, record: &R) -> Result<(), LogError> {
        Ok(wal::encode(record, self.synced, &mut self.buffer)?)
    }

    /// Hands everything appended to the file. It survives the process from here on, but not the
    /// machine.
    pub fn write(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let end = self.written + self.buffer.len() as u64;
        if end > MAX_LOG {
            return Err(LogError::Full { path: self.path.clone() });
        }
        if end > self.allocated {
            self.grow(end)?;
        }
        self.file.write_all_at(&self.buffer, self.written).map_err(failed("write", &self.path))?;
        self.written = end;
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.write()?;
        if self.synced < self.written {
            self.file.sync_data().map_err(failed("sync", &self.path))?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Replaces the whole log by `records`, durably and atomically. What was appended and not yet
    /// written is dropped with the rest of the old log.
    pub fn rewrite<R: Serialize>(&mut self, records: &[R]) -> Result<(), LogError> {
        let mut bytes = wal::encode_whole(records)?;
        let length = bytes.len() as u64;
        if length > MAX_LOG {
            return Err(LogError::Full { path: self.path.clone() });
        }
        // Room to append without growing at once; the file system finds the blocks for it now.
        bytes.resize(bytes.len() + growth(length) as usize, 0);
        let new = self.directory.join("log.new");
        let file = patiently(|| OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new))
            .map_err(failed("open", &new))?;
        file.write_all_at(&bytes, 0).map_err(failed("write", &new))?;
        file.sync_all().map_err(failed("sync", &new))?;
        fs::rename(&new, &self.path).map_err(failed("rename to log", &new))?;
        sync_directory(&self.directory)?;
        self.file = file;
        self.buffer.clear();
        self.written = length;
        self.synced = length;
        self.allocated = bytes.len() as u64;
        Ok(())
    }

    /// How many bytes of records are known to be durable.
    pub fn durable_length(&self) -> u64 {
        self.synced
    }

    /// Fills the file with zeros to somewhat beyond `end`. Zeros that are written, unlike a mere
    /// `fallocate`, leave no metadata to change when records overwrite them.
    fn grow(&mut self, end: u64) -> Result<(), LogError> {
        let goal = end + growth(end);
        let zeros = vec![0; (goal - self.allocated) as usize];
        self.file.write_all_at(&zeros, self.allocated).map_err(failed("extend", &self.path))?;
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        self.allocated = goal;
        Ok(())
    }
}

fn growth(used: u64) -> u64 {
    (used / 2).clamp(*GROWTH.start(), *GROWTH.end())
}

fn lock(directory: &Path) -> Result<File, LogError> {
    let path = directory.join("lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked { path: directory.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
    }
}

/// Opens a file. While the process or the machine is out of descriptors, which is no fault of the
/// disk's and says nothing of what is on it, it is tried again, for a while.
fn patiently(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    let deadline = Instant::now() + DESCRIPTOR_PATIENCE;
    loop {
        match open() {
            Err(e) if out_of_descriptors(&e) && Instant::now() < deadline => {
                std::thread::sleep(DESCRIPTOR_PAUSE);
            }
            other => return other,
        }
    }
}

fn out_of_descriptors(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error.raw_os_error().is_some_and(|raw| matches!(Errno::from_raw(raw), Errno::EMFILE | Errno::ENFILE))
}

/// Makes the names in a directory durable.
fn sync_directory(directory: &Path) -> Result<(), LogError> {
    patiently(|| File::open(directory))
        .and_then(|handle| handle.sync_all())
        .map_err(failed("sync the directory", directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Record = Vec<u8>;

    fn open(directory: &Path) -> (Log, Vec<Record>) {
        Log::open(directory).expect("the log opens")
    }

    #[test]
    fn a_lack_of_descriptors_is_waited_out_and_nothing_else() {
        let attempts = std::cell::Cell::new(0);
        let open = |fails: u32, with: nix::errno::Errno| {
            attempts.set(0);
            patiently(|| {
                attempts.set(attempts.get() + 1);
                if attempts.get() <= fails { Err(with.into()) } else { File::open("/dev/null") }
            })
        };
        assert!(open(3, nix::errno::Errno::EMFILE).is_ok());
        assert_eq!(attempts.get(), 4);
        assert!(open(1, nix::errno::Errno::ENFILE).is_ok());
        assert!(open(1, nix::errno::Errno::EACCES).is_err());
        assert_eq!(attempts.get(), 1);
    }

    #[test]
    fn records_come_back_and_rewrites_replace_them() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, found) = open(directory.path());
        assert!(found.is_empty());
        for i in 0..100_u8 {
            log.append(&vec![i; 40]).unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let (mut log, found) = open(directory.path());
        assert_eq!(found, (0..100_u8).map(|i| vec![i; 40]).collect::<Vec<_>>());
        log.append(&vec![255]).unwrap();
        log.rewrite(&[vec![7_u8; 9], vec![8]]).unwrap();
        log.append(&vec![9_u8]).unwrap();
        log.sync().unwrap();
        drop(log);
        assert_eq!(open(directory.path()).1, [vec![7; 9], vec![8], vec![9]]);
    }

    #[test]
    fn damage_anywhere_in_a_log_that_replaced_another_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        log.rewrite(&[vec![7_u8; 9], vec![8], vec![9]]).unwrap();
        let length = log.durable_length();
        drop(log);
        let path = directory.path().join("log");
        let whole = fs::read(&path).unwrap();
        for place in 0..length as usize {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let found = Log::open::<Record>(directory.path());
            assert!(matches!(found, Err(LogError::Damaged { .. })), "byte {place}: {found:?}");
            // And nothing was cut off: once the damage is mended, all is there.
            assert_eq!(fs::read(&path).unwrap(), bytes, "byte {place}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(open(directory.path()).1, [vec![7; 9], vec![8], vec![9]]);
    }

    #[test]
    fn a_long_log_grows_and_stays_readable() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        for i in 0..40_u8 {
            log.append(&vec![i; 100_000]).unwrap();
            log.sync().unwrap();
        }
        drop(log);
        assert_eq!(open(directory.path()).1.len(), 40);
    }

    #[test]
    fn two_nodes_cannot_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let (_log, _) = open(directory.path());
        let second = Log::open::<Record>(directory.path()).unwrap_err();
        assert!(matches!(second, LogError::Locked { .. }), "{second}");
    }

    #[test]
    fn damage_is_refused_and_says_where() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        for word in ["one", "two", "three"] {
            log.append(&word.as_bytes().to_vec()).unwrap();
            log.sync().unwrap();
        }
        drop(log);
        let path = directory.path().join("log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[wal::HEADER + 4 + wal::HEADER + 2] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        let error = Log::open::<Record>(directory.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("log is damaged: log record 1 at byte 20"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "a damaged log is left as it is, for whoever repairs it");
    }

    /// A log of some records, each with whether it was synced, and the length that was durable.
    fn written(directory: &Path, records: &[(Record, bool)]) -> (usize, Vec<u8>, u64) {
        let (mut log, _) = open(directory);
        let mut durable = 0;
        for (position, (record, sync)) in records.iter().enumerate() {
            log.append(record).unwrap();
            if *sync {
                log.sync().unwrap();
                durable = position + 1;
            }
        }
        log.write().unwrap();
        let length = log.durable_length();
        drop(log);
        (durable, fs::read(directory.join("log")).unwrap(), length)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn a_crash_at_any_byte_keeps_all_that_was_durable(
            records in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..12), any::<bool>()), 1..5),
            rubbish in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (durable, bytes, length) = written(directory.path(), &records);
            let all: Vec<Record> = records.iter().map(|(record, _)| record.clone()).collect();
            let path = directory.path().join("log");
            let end = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) + 1;
            // Whatever was not durable may be missing, zero or rubbish.
            for cut in (length as usize..=end).step_by(3) {
                let mut torn = bytes[..cut.min(bytes.len())].to_vec();
                torn.extend_from_slice(&rubbish);
                fs::write(&path, &torn).unwrap();
                let (mut log, found) = open(directory.path());
                prop_assert!(found.len() >= durable, "{} of {durable} durable records", found.len());
                prop_assert_eq!(&found[..], &all[..found.len()]);
                // The log goes on behind what was recovered, and the torn tail does not come back.
                log.append(&b"next".to_vec()).unwrap();
                log.sync().unwrap();
                drop(log);
                let (_, again) = open(directory.path());
                prop_assert_eq!(again.len(), found.len() + 1);
                prop_assert_eq!(&again[found.len()][..], b"next");
            }
        }
    }
}
