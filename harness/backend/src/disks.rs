//! Harm of disks: what is wrong with the file system under a process's data directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duress_seed::Seed;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Makes disks that fail on demand.
pub trait Disks: Send + Sync {
    /// Puts one under a directory of a host, which is made if missing, and what is in it. Whatever is
    /// started there afterwards uses it.
    ///
    /// # Errors
    /// If it can't be had.
    fn mount(&self, host: &str, directory: &Path) -> Result<Arc<dyn Disk>, Error>;
}

/// A disk that fails on demand, until it is [unmounted](Disk::unmount).
///
/// It keeps one file of its own, which programs don't see, to show by system calls what is wrong.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes these the things that are wrong with it, from the next call on.
    fn set(&self, conditions: Conditions);

    /// What has happened on it.
    fn counters(&self) -> Counters;

    /// Whether there is a flipped bit that is neither mended nor overwritten.
    fn is_damaged(&self) -> bool;

    /// The power fails: what is not durable is gone. With a seed, sectors of the latest write
    /// survive, chosen by it. Those who use the disk should be dead.
    ///
    /// # Errors
    /// If it can't be done.
    fn power_loss(&self, torn: Option<Seed>) -> Result<Loss, Error>;

    /// Flips a bit of a durable byte in a file, both chosen by the seed. Nothing if there is none.
    ///
    /// # Errors
    /// If it can't be done.
    fn flip(&self, seed: Seed) -> Result<Option<Flip>, Error>;

    /// Flips a bit back, unless its byte has been overwritten or has gone since. Whether it has not.
    ///
    /// # Errors
    /// If it can't be done.
    fn mend(&self, flip: &Flip) -> Result<bool, Error>;

    /// Makes something durable in the disk's own file, as far as it lets itself be made, and writes
    /// something over it that is not. Returns the durable content.
    ///
    /// # Errors
    /// If what is durable can't be told.
    fn plant(&self) -> Result<Vec<u8>, Error>;

    /// What programs would read in the disk's own file now.
    ///
    /// # Errors
    /// The system's answer, if it can't be read.
    fn planted(&self) -> Result<Vec<u8>, Error>;

    /// What programs read at a place of a file, given from the disk's root.
    ///
    /// # Errors
    /// The system's answer, if it can't be read.
    fn byte(&self, path: &Path, offset: u64) -> Result<u8, Error>;

    /// How the disk answers a few calls on its own file.
    fn probe(&self) -> Calls;

    /// Makes everything durable, and leaves the directory as a plain one. Doing it again does
    /// nothing.
    ///
    /// # Errors
    /// If that fails.
    fn unmount(&self) -> Result<(), Error>;
}

/// How one call went: the number of its error, as Linux has it.
pub type Call = Result<(), i32>;

/// How a disk answered a few calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Writing over what is there.
    pub write: Call,
    /// Making that durable.
    pub sync: Call,
    /// Whether it is durable after that.
    pub durable: bool,
    /// Reading.
    pub read: Call,
    /// Making the file longer.
    pub grow: Call,
    /// How long the quickest of them took.
    pub quickest: Duration,
}

/// What syncs do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Syncs {
    /// They make durable what they should.
    #[default]
    Work,
    /// They fail with `EIO`. What they should have made durable is not, and later syncs don't try
    /// it again, as on Linux.
    Fail,
    /// They succeed and make nothing durable.
    Lie,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Reads, writes and syncs take this much longer.
    pub slow: Duration,
    /// What needs more room fails with `ENOSPC`: longer files and new names. What is there can be
    /// overwritten.
    pub full: bool,
    /// What changes anything fails with `EROFS`.
    pub read_only: bool,
    /// Reads of files fail with `EIO`.
    pub read_error: bool,
    /// What syncs do.
    pub syncs: Syncs,
}

/// What has happened on a disk since it was mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Calls that read from files.
    pub reads: u64,
    /// Calls that wrote to files.
    pub writes: u64,
    /// Calls that asked for durability.
    pub syncs: u64,
    /// Calls that were answered late.
    pub slowed: u64,
    /// Calls that failed with `ENOSPC`.
    pub no_space: u64,
    /// Calls that failed with `EROFS`.
    pub read_only: u64,
    /// Reads that failed.
    pub reads_failed: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Syncs that said yes and did nothing.
    pub syncs_lied: u64,
    /// Bits flipped.
    pub bits_flipped: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Bytes that power losses took.
    pub bytes_lost: u64,
    /// Names that power losses took or brought back.
    pub names_lost: u64,
    /// Bytes of torn writes that survived a power loss.
    pub bytes_torn: u64,
    /// Unsynced bytes made durable because there were too many of them.
    pub written_back: u64,
}

impl Counters {
    /// Calls that failed, for whatever reason.
    pub fn failed(&self) -> u64 {
        self.no_space + self.read_only + self.reads_failed + self.syncs_failed
    }
}

/// What one power loss did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Bytes that were written and not durable, and are gone.
    pub bytes: u64,
    /// Names that were not durable and are gone, or were removed and are back.
    pub names: u64,
    /// Bytes of the last write that survived although they were not synced.
    pub torn: u64,
}

/// A bit that was flipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// In which file, from the disk's root.
    pub path: PathBuf,
    /// In which of its bytes.
    pub offset: u64,
    /// What the byte was.
    pub before: u8,
    /// What it is now.
    pub after: u8,
    /// The number of the file on the disk, whatever it is called by now.
    pub inode: u64,
}
