//! The backing directory: what is durable, and only that.
//!
//! The directory itself looks at every moment as a power loss would leave it. A file that has no
//! durable name needs a place as well, so there is a second directory beside it of *objects*: one
//! file for each inode, named by its number, of which the names in the backing directory are hard
//! links. Both are reached by descriptors, since a file system gets mounted over the first.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{Statvfs, fstatvfs};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use crate::DiskError;

/// A name that objects don't have, for a link on its way to where it replaces another.
const COMING: &str = "coming";

/// The backing directory and the objects beside it. Paths are relative to the directory.
#[derive(Debug)]
pub(crate) struct Backing {
    root: OwnedFd,
    objects: OwnedFd,
    /// Where the objects are.
    place: PathBuf,
}

impl Backing {
    /// Opens the directory and makes an empty one for the objects. What an earlier life left there
    /// is removed: it had no name that was durable.
    pub(crate) fn open(directory: &Path) -> Result<Backing, DiskError> {
        let mut name = directory.file_name().unwrap_or(OsStr::new("data")).to_owned();
        name.push(".objects");
        let place = directory.with_file_name(name);
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DiskError::io("clear", &place)(error));
            }
            _ => {}
        }
        fs::create_dir(&place).map_err(DiskError::io("make", &place))?;
        let handle = |path: &Path| {
            let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            open(path, flags, Mode::empty()).map_err(|errno| DiskError::io("open", path)(errno.into()))
        };
        Ok(Backing { root: handle(directory)?, objects: handle(&place)?, place })
    }

    /// Makes an empty object.
    pub(crate) fn create(&self, inode: u64) -> nix::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        openat(&self.objects, object(inode).as_str(), flags, Mode::from_bits_truncate(0o600)).map(File::from)
    }

    /// Opens an object.
    pub(crate) fn object(&self, inode: u64) -> nix::Result<File> {
        openat(&self.objects, object(inode).as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
    }

    /// Opens a file in the directory, to read it.
    pub(crate) fn shown(&self, path: &Path) -> nix::Result<File> {
        openat(&self.root, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
    }

    /// Makes an object of a file that is in the directory.
    pub(crate) fn adopt(&self, inode: u64, path: &Path) -> nix::Result<()> {
        linkat(&self.root, path, &self.objects, object(inode).as_str(), AtFlags::empty())
    }

    /// Removes an object.
    pub(crate) fn remove(&self, inode: u64) -> nix::Result<()> {
        unlinkat(&self.objects, object(inode).as_str(), UnlinkatFlags::NoRemoveDir)
    }

    /// Gives an object a name in the directory, instead of whatever file has it.
    pub(crate) fn show(&self, inode: u64, path: &Path) -> nix::Result<()> {
        match unlinkat(&self.objects, COMING, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        linkat(&self.objects, object(inode).as_str(), &self.objects, COMING, AtFlags::empty())?;
        renameat(&self.objects, COMING, &self.root, path)
    }

    /// Makes a directory.
    pub(crate) fn make_directory(&self, path: &Path) -> nix::Result<()> {
        mkdirat(&self.root, path, Mode::from_bits_truncate(0o755))
    }

    /// Makes a symbolic link.
    pub(crate) fn make_link(&self, target: &Path, path: &Path) -> nix::Result<()> {
        symlinkat(target, &self.root, path)
    }

    /// Removes a name from the directory, of a directory with all that is in it.
    pub(crate) fn hide(&self, path: &Path) -> nix::Result<()> {
        let mut waiting = vec![path.to_path_buf()];
        let mut directories = Vec::new();
        while let Some(path) = waiting.pop() {
            match unlinkat(&self.root, &path, UnlinkatFlags::NoRemoveDir) {
                // EPERM is what POSIX says of directories, EISDIR what Linux does.
                Err(Errno::EISDIR | Errno::EPERM) => {
                    for name in self.names(&path)? {
                        waiting.push(path.join(name));
                    }
                    directories.push(path);
                }
                result => result?,
            }
        }
        directories.iter().rev().try_for_each(|path| unlinkat(&self.root, path, UnlinkatFlags::RemoveDir))
    }

    /// The names in a directory.
    fn names(&self, path: &Path) -> nix::Result<Vec<OsString>> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut directory = Dir::openat(&self.root, path, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// How much room there is.
    pub(crate) fn room(&self) -> nix::Result<Statvfs> {
        fstatvfs(&self.root)
    }

    /// Removes the objects. Those with a name in the directory stay there under it.
    pub(crate) fn close(self) -> io::Result<()> {
        fs::remove_dir_all(&self.place)
    }
}

/// Sets an object's permissions, but never so that its owner can't use it.
pub(crate) fn permit(object: &File, mode: u32) -> io::Result<()> {
    object.set_permissions(fs::Permissions::from_mode(mode & 0o777 | 0o600))
}

fn object(inode: u64) -> String {
    inode.to_string()
}
