//! Why a disk can't be had.

use std::io;
use std::path::PathBuf;

/// A failure of the harness's own file system, never one that a node was meant to see.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The device by which file systems are served can't be used.
    #[error("can't use {}: {source}. {}", crate::DEVICE, advice(.source))]
    Device {
        /// What the kernel said.
        source: io::Error,
    },
    /// The system refused a step.
    #[error("can't {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.into();
        move |source| DiskError::Io { doing, path, source }
    }
}

/// What to do when the device is refused.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "Load the driver with `sudo modprobe fuse`; in a container, start it with `--device /dev/fuse`"
        }
        io::ErrorKind::PermissionDenied => {
            "It must be writable for the user who runs this: `sudo chmod 666 /dev/fuse`, or run as root; in a container, \
             start it with `--device /dev/fuse`"
        }
        _ => "The kernel needs the driver (CONFIG_FUSE_FS): `sudo modprobe fuse`",
    }
}
