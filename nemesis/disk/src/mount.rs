//! A disk that is mounted.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use duress_seed::Seed;
use fuser::{BackgroundSession, INodeNo, Notifier, Session, SessionACL};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::DiskError;
use crate::server::{Late, Server, lock};
use crate::volume::{Conditions, Counters, Flip, Loss, Volume};

/// The device by which the kernel is served.
pub const DEVICE: &str = "/dev/fuse";

/// How long the kernel gets to let go of a file system that nobody uses.
const PATIENCE: Duration = Duration::from_secs(2);

/// A directory under which a disk fails on demand, for as long as this lives.
///
/// What is durable is in the directory itself, hidden by the mount; everything else is in memory.
/// Served by threads of this process: when it dies, every call on the mount fails.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    volume: Arc<Mutex<Option<Volume>>>,
    notifier: Notifier,
    /// The threads that serve it.
    threads: Mutex<Option<(BackgroundSession, JoinHandle<()>)>>,
}

/// Opens the device, which is all that tells whether a user may serve file systems.
///
/// # Errors
/// If the device is missing or not ours to use, with what to do about it.
pub fn device() -> Result<OwnedFd, DiskError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(DEVICE)
        .map(OwnedFd::from)
        .map_err(|source| DiskError::Device { source })
}

impl Disk {
    /// Mounts a disk over a directory and what is in it. The calling thread must be in a mount
    /// namespace in which it may mount; whoever enters that namespace sees the disk. Beside the
    /// directory there is another one, `<directory>.objects`, until [`unmount`](Disk::unmount).
    ///
    /// # Errors
    /// If the device can't be used, the directory can't be read, or the mount is refused.
    pub fn mount(directory: &Path) -> Result<Disk, DiskError> {
        let device = device()?;
        let volume = Arc::new(Mutex::new(Some(Volume::open(directory)?)));
        let (late, waiting) = mpsc::channel();
        let options = format!(
            "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
            device.as_raw_fd(),
            nix::unistd::getuid(),
            nix::unistd::getgid(),
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("duress-disk"), directory, Some("fuse.duress"), flags, Some(options.as_str()))
            .map_err(|errno| DiskError::io("mount a disk over", directory)(errno.into()))?;
        let server = Server { volume: Arc::clone(&volume), late };
        let started = Session::from_fd(server, device, SessionACL::All, fuser::Config::default())
            .and_then(Session::spawn)
            .and_then(|session| {
                let late = thread::Builder::new().name("slow disk".into()).spawn(move || answer(&waiting))?;
                Ok((session, late))
            });
        let (session, late) = match started {
            Ok(started) => started,
            Err(error) => {
                // The kernel has said what is wrong; a mount that nobody serves is of no use.
                let _ = umount2(directory, MntFlags::MNT_DETACH);
                return Err(DiskError::io("serve a disk over", directory)(error));
            }
        };
        let notifier = session.notifier();
        let threads = Mutex::new(Some((session, late)));
        Ok(Disk { directory: directory.to_path_buf(), volume, notifier, threads })
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Changes what is wrong with it, from the next call on.
    pub fn set(&self, change: impl FnOnce(&mut Conditions)) {
        if let Some(volume) = lock(&self.volume).as_mut() {
            change(&mut volume.conditions);
        }
    }

    /// What is wrong with it.
    pub fn conditions(&self) -> Conditions {
        lock(&self.volume).as_ref().map(|volume| volume.conditions).unwrap_or_default()
    }

    /// What has happened on it.
    pub fn counters(&self) -> Counters {
        lock(&self.volume).as_ref().map(|volume| volume.counters).unwrap_or_default()
    }

    /// The durable content of a file, as it would be found after a power loss: `None` if it has no
    /// durable name. `path` is relative to the disk's root.
    ///
    /// # Errors
    /// If the backing directory fails.
    pub fn durable(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.with("look at what is durable of", |volume| volume.durable(path))?.flatten())
    }

    /// The power fails: what is not durable is gone, whatever was open fails with `EIO`. With a
    /// seed, sectors of the latest write survive, chosen by it. Those who use the disk should be
    /// dead.
    ///
    /// # Errors
    /// If the backing directory fails.
    pub fn power_loss(&self, torn: Option<Seed>) -> Result<Loss, DiskError> {
        let lose = |volume: &mut Volume| {
            let loss = volume.power_loss(torn)?;
            Ok((loss, volume.tree.inodes.keys().copied().collect::<Vec<_>>()))
        };
        let (loss, inodes) = self.with("lose power on", lose)?.unwrap_or_default();
        inodes.into_iter().for_each(|inode| self.forget(inode));
        Ok(loss)
    }

    /// Flips a bit of a durable byte in a file, both chosen by the seed. Nothing if there is none.
    ///
    /// # Errors
    /// If the backing directory fails.
    pub fn flip(&self, seed: Seed) -> Result<Option<Flip>, DiskError> {
        let flipped = self.with("flip a bit of", |volume| volume.flip(seed))?.flatten();
        self.forget_flipped(flipped.as_ref());
        Ok(flipped)
    }

    /// Flips a bit back, unless its byte has been overwritten or has gone since. Whether it has
    /// not.
    ///
    /// # Errors
    /// If the backing directory fails.
    pub fn mend(&self, flip: &Flip) -> Result<bool, DiskError> {
        let mended = self.with("mend a bit of", |volume| volume.mend(flip))?.unwrap_or_default();
        self.forget_flipped(Some(flip));
        Ok(mended)
    }

    /// Whether there is a flipped bit that is neither mended nor overwritten.
    pub fn is_damaged(&self) -> bool {
        lock(&self.volume).as_ref().is_some_and(Volume::is_damaged)
    }

    /// Does something to the volume, unless it is closed.
    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Volume) -> nix::Result<T>,
    ) -> Result<Option<T>, DiskError> {
        let done = lock(&self.volume).as_mut().map(work).transpose();
        done.map_err(|errno| self.error(doing, errno.into()))
    }

    /// Makes everything durable, and leaves the directory as a plain one with what was on the disk.
    /// Whoever still uses the disk gets errors. Doing it again does nothing.
    ///
    /// # Errors
    /// If the backing directory fails, or the mount is not where it was.
    pub fn unmount(&self) -> Result<(), DiskError> {
        let Some(volume) = lock(&self.volume).take() else { return Ok(()) };
        let unmounted = umount2(&self.directory, MntFlags::MNT_DETACH);
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((session, late)) = threads {
            let until = Instant::now() + PATIENCE;
            while !session.guard.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            // With it goes the last who could ask for a late answer.
            if session.guard.is_finished() {
                let _ = session.join();
                let _ = late.join();
            }
        }
        volume.close().map_err(|error| self.error("write back", error))?;
        unmounted.map_err(|errno| self.error("unmount", errno.into()))
    }

    /// Lets the kernel forget what it keeps of a file for programs that map it. It may first write
    /// some of that, so the volume must not be locked.
    fn forget(&self, inode: u64) {
        // Fails if it keeps nothing.
        let _ = self.notifier.inval_inode(INodeNo(inode), 0, 0);
    }

    fn forget_flipped(&self, flip: Option<&Flip>) {
        if let Some(flip) = flip {
            self.forget(flip.inode);
        }
    }

    fn error(&self, doing: &'static str, error: io::Error) -> DiskError {
        DiskError::io(doing, &self.directory)(error)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Who cares what came of it has called `unmount`.
        let _ = self.unmount();
    }
}

/// Gives late answers in the order in which they were asked for.
fn answer(waiting: &mpsc::Receiver<Late>) {
    for (due, answer) in waiting {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        answer();
    }
}
