//! A file system over a node's data directory that fails on demand: it loses what was not synced
//! when the power fails, its syncs fail or lie, it is slow, full, read-only, damaged or unreadable.
//!
//! A [`Disk`] is mounted over a directory by FUSE, within the mount namespace of the run. What is
//! durable is in the directory, what is not is in memory: the first [`Disk::power_loss`] forgets
//! the second. [`Conditions`] say what is wrong meanwhile, and [`Counters`] what came of it, which
//! is the evidence.
//!
//! What is durable is what POSIX promises and no more: the content of a file when the file was
//! synced, its name when the directory was. Renames are atomic, permissions and owners durable at
//! once. Nothing goes through the kernel's page cache but what programs map into their memory.
//!
//! Limits: 64 MiB of unsynced bytes, beyond which files are made durable; files, directories and
//! symbolic links only; no extended attributes; holes are filled. The backing directory itself is
//! never synced: a real power loss is not what this protects from.
//!
//! It must not know who uses the disk, nor when and why it fails.

mod backing;
mod content;
mod error;
mod mount;
mod overlay;
mod server;
mod tree;
mod volume;

pub use error::DiskError;
pub use mount::{DEVICE, Disk, device};
pub use tree::OWN_PREFIX;
pub use volume::{Conditions, Counters, Flip, Loss, Syncs};
